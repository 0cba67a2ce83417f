#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

_Static_assert(sizeof(struct clinux_address) == 24, "the layout of TunnelModel's SocketAddress");
_Static_assert(offsetof(struct clinux_address, scope) == 16, "the layout of TunnelModel's SocketAddress");
_Static_assert(offsetof(struct clinux_address, port) == 20, "the layout of TunnelModel's SocketAddress");
_Static_assert(offsetof(struct clinux_address, version) == 22, "the layout of TunnelModel's SocketAddress");

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static void store_ipv6(struct in6_addr *out, const struct clinux_address *address) {
    uint64_t high = htobe64(address->high), low = htobe64(address->low);
    memcpy(out->s6_addr, &high, 8);
    memcpy(out->s6_addr + 8, &low, 8);
}

static void load_ipv6(struct clinux_address *out, const struct in6_addr *address) {
    uint64_t high, low;
    memcpy(&high, address->s6_addr, 8);
    memcpy(&low, address->s6_addr + 8, 8);
    out->high = be64toh(high);
    out->low = be64toh(low);
    out->version = 6;
}

/// The size of what was stored, 0 for no address.
static socklen_t to_system(union socket_address *out, const struct clinux_address *address) {
    memset(out, 0, sizeof *out);
    switch (address->version) {
    case 4:
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(address->port);
        out->v4.sin_addr.s_addr = htonl((uint32_t)address->low);
        return sizeof out->v4;
    case 6:
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(address->port);
        out->v6.sin6_scope_id = address->scope;
        store_ipv6(&out->v6.sin6_addr, address);
        return sizeof out->v6;
    default:
        return 0;
    }
}

static void from_system(struct clinux_address *out, const union socket_address *address, socklen_t size) {
    memset(out, 0, sizeof *out);
    if (size >= sizeof address->v4 && address->any.sa_family == AF_INET) {
        out->low = ntohl(address->v4.sin_addr.s_addr);
        out->port = ntohs(address->v4.sin_port);
        out->version = 4;
    } else if (size >= sizeof address->v6 && address->any.sa_family == AF_INET6) {
        load_ipv6(out, &address->v6.sin6_addr);
        out->port = ntohs(address->v6.sin6_port);
        out->scope = address->v6.sin6_scope_id;
    }
}

int clinux_udp_socket(int version) {
    int fd = socket(version == 6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
    return fd < 0 ? -errno : fd;
}

int clinux_udp_bind(int fd, const struct clinux_address *address) {
    union socket_address system;
    socklen_t size = to_system(&system, address);
    if (size == 0) return -EAFNOSUPPORT;
    return bind(fd, &system.any, size) < 0 ? -errno : 0;
}

int clinux_udp_local_address(int fd, struct clinux_address *address) {
    union socket_address system;
    socklen_t size = sizeof system;
    if (getsockname(fd, &system.any, &size) < 0) return -errno;
    from_system(address, &system, size);
    return 0;
}

int clinux_udp_set_gro(int fd, int on) {
    return setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) < 0 ? -errno : 0;
}

/// Appends a control message; the space it takes.
static size_t append_control(char *control, int level, int type, const void *data, size_t size) {
    struct cmsghdr header = {.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(size)};
    memcpy(control, &header, sizeof header);
    memcpy(control + CMSG_LEN(0), data, size);
    return CMSG_SPACE(size);
}

ssize_t clinux_udp_send(int fd, const struct clinux_address *to, const struct clinux_address *local,
                        const struct iovec *parts, size_t part_count, uint16_t segment_size) {
    union socket_address system;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct in6_pktinfo))] = {0};
    struct msghdr message = {
        .msg_name = &system,
        .msg_iov = (struct iovec *)parts,
        .msg_iovlen = part_count,
        .msg_control = control,
    };
    message.msg_namelen = to_system(&system, to);
    if (message.msg_namelen == 0) return -EDESTADDRREQ;
    if (segment_size > 0) {
        message.msg_controllen +=
            append_control(control, SOL_UDP, UDP_SEGMENT, &segment_size, sizeof segment_size);
    }
    if (local && local->version == 4 && to->version == 4) {
        struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl((uint32_t)local->low)};
        message.msg_controllen +=
            append_control(control + message.msg_controllen, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    } else if (local && local->version == 6 && to->version == 6) {
        struct in6_pktinfo info = {.ipi6_ifindex = local->scope};
        store_ipv6(&info.ipi6_addr, local);
        message.msg_controllen +=
            append_control(control + message.msg_controllen, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
    if (message.msg_controllen == 0) message.msg_control = NULL;
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

ssize_t clinux_udp_receive(int fd, void *buffer, size_t size, struct clinux_address *from,
                           struct clinux_address *local, uint16_t *segment_size) {
    union socket_address system;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
    struct iovec part = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {
        .msg_name = &system,
        .msg_namelen = sizeof system,
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT);
    if (received < 0) return -errno;
    if (message.msg_flags & MSG_TRUNC) return -EMSGSIZE;
    from_system(from, &system, message.msg_namelen);
    *segment_size = 0;
    if (local) memset(local, 0, sizeof *local);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO) {
            int value;
            memcpy(&value, CMSG_DATA(part), sizeof value);
            // A size of one datagram's length or more: there is only one.
            if (value > 0 && value < received) *segment_size = (uint16_t)value;
        } else if (local && part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof info);
            local->low = ntohl(info.ipi_spec_dst.s_addr);
            local->version = 4;
        } else if (local && part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof info);
            load_ipv6(local, &info.ipi6_addr);
            // An index is needed to answer from a link-local address, and wrong for any other once routes change.
            if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) local->scope = info.ipi6_ifindex;
        }
    }
    return received;
}
