#ifndef CALLOCATIONS_H
#define CALLOCATIONS_H

#include <stdint.h>

/// Allocations of the whole process so far: malloc, calloc, realloc and the aligned ones, by any thread.
uint64_t allocation_count(void);

#endif
