#define _GNU_SOURCE
#include "network_namespace.h"

#include <errno.h>
#include <sched.h>

int network_namespace_enter_new(void) { return unshare(CLONE_NEWNET) < 0 ? errno : 0; }
