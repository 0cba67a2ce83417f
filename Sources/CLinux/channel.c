#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

int clinux_channel_send(int fd, const void *bytes, size_t size, const int *descriptors, int descriptor_count) {
    if (descriptor_count < 0 || descriptor_count > CLINUX_MAXIMUM_DESCRIPTORS) return -EINVAL;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(CLINUX_MAXIMUM_DESCRIPTORS * sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE((size_t)descriptor_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)descriptor_count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, (size_t)descriptor_count * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

ssize_t clinux_channel_receive(int fd, void *bytes, size_t size, int *descriptors, int *descriptor_count) {
    // Room for one more than is accepted, so that a surplus is seen and not only cut off.
    _Alignas(struct cmsghdr) char control[CMSG_SPACE((CLINUX_MAXIMUM_DESCRIPTORS + 1) * sizeof(int))];
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t received;
    do {
        received = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    *descriptor_count = 0;
    if (received < 0) return -errno;
    int overflow = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < count; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof(int));
            if (*descriptor_count < CLINUX_MAXIMUM_DESCRIPTORS) {
                descriptors[(*descriptor_count)++] = descriptor;
            } else {
                close(descriptor);
                overflow = 1;
            }
        }
    }
    int error = overflow ? EOVERFLOW : (message.msg_flags & MSG_TRUNC) ? EMSGSIZE : 0;
    if (error == 0) return received;
    while (*descriptor_count > 0) close(descriptors[--*descriptor_count]);
    return -error;
}

static int unix_address(struct sockaddr_un *out, socklen_t *size, const char *path) {
    size_t length = strlen(path);
    if (length == 0) return -EINVAL;
    // The kernel accepts a path without its NUL; the C library's tools do not, so it must fit.
    if (length >= sizeof out->sun_path) return -ENAMETOOLONG;
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, path, length);
    int is_abstract = path[0] == '@';
    if (is_abstract) out->sun_path[0] = 0;
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (is_abstract ? 0 : 1));
    return 0;
}

int clinux_unix_connect(int fd, const char *path) {
    struct sockaddr_un address;
    socklen_t size;
    int error = unix_address(&address, &size, path);
    if (error < 0) return error;
    return connect(fd, (struct sockaddr *)&address, size) < 0 ? -errno : 0;
}

int clinux_unix_bind(int fd, const char *path) {
    struct sockaddr_un address;
    socklen_t size;
    int error = unix_address(&address, &size, path);
    if (error < 0) return error;
    return bind(fd, (struct sockaddr *)&address, size) < 0 ? -errno : 0;
}
