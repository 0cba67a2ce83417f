#ifndef PACKET_SOCKET_H
#define PACKET_SOCKET_H

#include <stddef.h>
#include <stdint.h>

/*
 * Raw Ethernet access to one network interface: what the link emulator needs of AF_PACKET and of poll with
 * nanoseconds, with signatures that Swift imports as they are. Functions return a negative errno on failure.
 */

/* Frames per call of packet_socket_receive and packet_socket_send. */
#define PACKET_SOCKET_BATCH 64

/* A received frame was longer than its buffer. */
#define PACKET_SOCKET_TRUNCATED 1u
/* The sender left a checksum or the segmentation to hardware that is not there. */
#define PACKET_SOCKET_UNFINISHED 2u

struct packet_socket_frame {
    void *bytes;
    uint32_t capacity;
    uint32_t length;
    uint32_t flags;
};

/* Opens a non-blocking socket that sees every frame that arrives at `interface`, and none that leaves it. */
int packet_socket_open(const char *interface, int receive_buffer, int send_buffer);

/* Fills up to `count` frames; returns how many, 0 when none is waiting. */
int packet_socket_receive(int fd, struct packet_socket_frame *frames, unsigned count);

/* Sends `count` frames; returns how many were taken. */
int packet_socket_send(int fd, const struct packet_socket_frame *frames, unsigned count);

/*
 * Waits until one of the descriptors is readable or `timeout_ns` has passed (negative: for ever). Bit i of the result
 * says that descriptors[i] is readable or at its end. At most 8 descriptors; a negative one is left out.
 */
int packet_socket_wait(const int *descriptors, unsigned count, int64_t timeout_ns);

/* Lets this thread's timeouts expire within a microsecond instead of the usual 50. */
int packet_socket_exact_timers(void);

#endif
