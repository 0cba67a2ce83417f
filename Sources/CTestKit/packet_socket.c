#define _GNU_SOURCE
#include "packet_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

static int set_option(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value);
}

int packet_socket_open(const char *interface, int receive_buffer, int send_buffer) {
    unsigned index = if_nametoindex(interface);
    if (index == 0)
        return -errno;
    /* Protocol 0: nothing is received until the socket is bound to its interface. */
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    struct packet_mreq promiscuous = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
    if (set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) < 0 ||
        set_option(fd, SOL_PACKET, PACKET_AUXDATA, 1) < 0 ||
        set_option(fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1) < 0 ||
        set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer) < 0 ||
        set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, send_buffer) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int packet_socket_receive(int fd, struct packet_socket_frame *frames, unsigned count) {
    struct mmsghdr messages[PACKET_SOCKET_BATCH];
    struct iovec vectors[PACKET_SOCKET_BATCH];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    } control[PACKET_SOCKET_BATCH];
    if (count > PACKET_SOCKET_BATCH)
        count = PACKET_SOCKET_BATCH;
    memset(messages, 0, sizeof messages[0] * count);
    for (unsigned i = 0; i < count; i++) {
        vectors[i] = (struct iovec){frames[i].bytes, frames[i].capacity};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_control = &control[i];
        messages[i].msg_hdr.msg_controllen = sizeof control[i];
    }
    int received = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
    if (received < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    for (int i = 0; i < received; i++) {
        frames[i].length = messages[i].msg_len;
        frames[i].flags = messages[i].msg_hdr.msg_flags & MSG_TRUNC ? PACKET_SOCKET_TRUNCATED : 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr); c; c = CMSG_NXTHDR(&messages[i].msg_hdr, c)) {
            if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
                continue;
            struct tpacket_auxdata auxiliary;
            memcpy(&auxiliary, CMSG_DATA(c), sizeof auxiliary);
            if (auxiliary.tp_status & TP_STATUS_CSUMNOTREADY)
                frames[i].flags |= PACKET_SOCKET_UNFINISHED;
        }
    }
    return received;
}

int packet_socket_send(int fd, const struct packet_socket_frame *frames, unsigned count) {
    struct mmsghdr messages[PACKET_SOCKET_BATCH];
    struct iovec vectors[PACKET_SOCKET_BATCH];
    if (count > PACKET_SOCKET_BATCH)
        count = PACKET_SOCKET_BATCH;
    memset(messages, 0, sizeof messages[0] * count);
    for (unsigned i = 0; i < count; i++) {
        vectors[i] = (struct iovec){frames[i].bytes, frames[i].length};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int sent = sendmmsg(fd, messages, count, MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

int packet_socket_wait(const int *descriptors, unsigned count, int64_t timeout_ns) {
    struct pollfd polled[8];
    if (count > 8)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++)
        polled[i] = (struct pollfd){.fd = descriptors[i], .events = POLLIN};
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    int ready = ppoll(polled, count, timeout_ns < 0 ? NULL : &timeout, NULL);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    int readable = 0;
    for (unsigned i = 0; i < count; i++)
        if (polled[i].revents)
            readable |= 1 << i;
    return readable;
}

int packet_socket_exact_timers(void) { return prctl(PR_SET_TIMERSLACK, 1) < 0 ? -errno : 0; }
