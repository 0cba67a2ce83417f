#ifndef C_TEST_KIT_H
#define C_TEST_KIT_H

#include "packet_socket.h"
#include "spawn_extra.h"

#endif
