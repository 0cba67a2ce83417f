#ifndef C_TEST_KIT_H
#define C_TEST_KIT_H

#include "network_namespace.h"
#include "packet_socket.h"
#include "spawn_extra.h"

#endif
