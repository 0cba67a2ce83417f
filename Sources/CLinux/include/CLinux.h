// What Swift cannot import: system calls behind packed structures, control messages and ioctls, and headers that clash
// with the C library's. Every function that can fail returns the error as -errno; none of them allocates.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

#pragma GCC visibility push(default)

// MARK: - Addresses

/// An IPv4 or IPv6 address with a UDP port, host byte order. For IPv4 the address is the low 32 bits of `low`.
/// The layout is TunnelModel's SocketAddress.
struct clinux_address {
    uint64_t high;
    uint64_t low;
    uint32_t scope;
    uint16_t port;
    /// 4, 6, or 0 for none.
    uint8_t version;
    uint8_t padding;
};

// MARK: - UDP

/// An unbound UDP socket, close-on-exec and nonblocking; the descriptor, or -errno.
int clinux_udp_socket(int version);
int clinux_udp_bind(int fd, const struct clinux_address *address);
int clinux_udp_local_address(int fd, struct clinux_address *address);

/// Sends one datagram, or with `segment_size` > 0 as many as the bytes make in that size (UDP_SEGMENT).
/// `local` (may be null) chooses the source address; its port is not used. Bytes sent, or -errno.
ssize_t clinux_udp_send(int fd, const struct clinux_address *to, const struct clinux_address *local,
                        const struct iovec *parts, size_t part_count, uint16_t segment_size);

/// Receives one datagram, or several of one sender's joined by UDP_GRO: then `*segment_size` is the size of all but the
/// last, else 0. `local` (may be null) is set to the address that the datagram was sent to, or to none.
/// Bytes received, or -errno; -EMSGSIZE for a datagram that did not fit.
ssize_t clinux_udp_receive(int fd, void *buffer, size_t size, struct clinux_address *from,
                           struct clinux_address *local, uint16_t *segment_size);

/// Switches UDP_GRO on (1) or off (0).
int clinux_udp_set_gro(int fd, int on);

// MARK: - Messages with descriptors (SOCK_SEQPACKET)

enum { CLINUX_MAXIMUM_DESCRIPTORS = 8 };

/// Never blocks. 0, or -errno.
int clinux_channel_send(int fd, const void *bytes, size_t size, const int *descriptors, int descriptor_count);

/// Never blocks. `descriptors` has room for CLINUX_MAXIMUM_DESCRIPTORS. The message's size, 0 at the end of the channel,
/// -EMSGSIZE for a message larger than `size`, -EOVERFLOW for one with too many descriptors; in both cases what came
/// with it has been closed.
ssize_t clinux_channel_receive(int fd, void *bytes, size_t size, int *descriptors, int *descriptor_count);

// MARK: - TUN and TAP

/// Offload bits of TUNSETOFFLOAD; the headers of Debian 12 lack the last two (Linux 6.2).
enum {
    CLINUX_TUN_CSUM = 0x01,
    CLINUX_TUN_TSO4 = 0x02,
    CLINUX_TUN_TSO6 = 0x04,
    CLINUX_TUN_USO4 = 0x20,
    CLINUX_TUN_USO6 = 0x40,
};

/// A device of exactly this name: the descriptor (nonblocking, close-on-exec), or -errno. With `is_new` -EBUSY when a
/// device of that name exists, else only when someone has it open.
int clinux_tun_open(const char *name, int is_tap, int has_virtio_header, int is_new);
int clinux_tun_set_virtio_header_size(int fd, int size);
int clinux_tun_set_offload(int fd, unsigned int bits);

// MARK: - Processes

/// Processors that this process may run on.
int clinux_processors(void);

/// A descriptor that becomes readable when process `pid` ends; close-on-exec.
int clinux_pidfd_open(pid_t pid);
/// execve(2). Returns only on failure, -errno.
int clinux_execute(const char *path, char *const *arguments, char *const *environment);
/// The environment as it is now.
char **clinux_environment(void);

/// fork(2), which Swift does not import. 0 in the child.
pid_t clinux_fork(void);

struct clinux_spawn_request {
    /// Executed as it is: no PATH search.
    const char *path;
    char *const *arguments;
    char *const *environment;
    /// For descriptors 0, 1, 2 of the child: the parent's descriptors, or -1 for /dev/null.
    int standard_input;
    int standard_output;
    int standard_error;
    /// Becomes descriptor 3, or -1. Every other descriptor is closed.
    int channel;
    /// Whether the child leads a session of its own.
    int new_session;
};

/// fork and exec in the root directory, with every signal at its default and none blocked. The pid, or -errno, that of execve(2) included.
pid_t clinux_spawn(const struct clinux_spawn_request *request);

/// Every descriptor from `first` on is closed, except `keep` (sorted ascending).
int clinux_close_all_but(unsigned int first, const int *keep, size_t keep_count);

/// Real, effective and saved user (group) at once.
int clinux_set_user(uid_t user);
int clinux_set_group(gid_t group);
/// 1 when real, effective and saved user and group are all these, else 0.
int clinux_is_identity(uid_t user, gid_t group);

int clinux_set_no_new_privileges(void);
/// Removes every capability from the bounding and ambient sets. Needs CAP_SETPCAP.
int clinux_drop_bounding_capabilities(void);
/// Empties the effective, permitted and inheritable sets.
int clinux_drop_capabilities(void);
/// 1 when any effective, permitted or inheritable capability is left, 0 when none is, or -errno.
int clinux_has_capabilities(void);

/// Installs a system-call filter for the whole process: the calls of `allowed` work, those of `refused` fail with EPERM,
/// clone3 with ENOSYS (so that the C library falls back to clone, of which only threads are let through), mmap and
/// mprotect work without PROT_EXEC, prctl only for PR_SET_NAME; any other call, or another architecture's, kills the
/// process with SIGSYS.
int clinux_seccomp_install(const int *allowed, size_t allowed_count, const int *refused, size_t refused_count);

// MARK: - Process title

/// The short name (comm) of this process, at most 15 bytes.
void clinux_set_name(const char *name);
/// Bytes that a title may take, its closing NUL included: what the kernel shows as the command line.
size_t clinux_title_capacity(void);
/// Shows `title`, cut to the capacity. The environment has moved to the heap after the first call.
void clinux_title_set(const char *title);

/// Gives memory back to the system that the process has used and does not use: free heap pages, and the stack below the
/// caller. For the main thread of a process that is about to sleep for long.
void clinux_release_memory(void);

// MARK: - Events, memory and time

/// Close-on-exec, nonblocking.
int clinux_eventfd(void);
/// Blocks `signals` for this thread. Close-on-exec, nonblocking.
int clinux_signalfd(const int *signals, size_t count);

int clinux_memory_file(const char *name, size_t size);
/// Sleeps in epoll_wait at most `timeout` nanoseconds; negative: for ever. Number of events, or -errno.
int clinux_epoll_wait(int fd, struct epoll_event *events, int maximum, int64_t timeout);

static inline uint64_t clinux_load_acquire(const uint64_t *value) {
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}
static inline void clinux_store_release(uint64_t *value, uint64_t next) {
    __atomic_store_n(value, next, __ATOMIC_RELEASE);
}
static inline uint64_t clinux_fetch_add(uint64_t *value, uint64_t delta) {
    return __atomic_fetch_add(value, delta, __ATOMIC_ACQ_REL);
}

// MARK: - Local sockets

/// A UNIX socket address; `path` starting with '@' is abstract. 0, or -ENAMETOOLONG.
int clinux_unix_connect(int fd, const char *path);
int clinux_unix_bind(int fd, const char *path);

// MARK: - rtnetlink constants (their headers clash with the C library's net/if.h)

enum {
    CLINUX_NLMSG_ERROR = 2,
    CLINUX_NLMSG_DONE = 3,
    CLINUX_NLM_F_REQUEST = 0x01,
    CLINUX_NLM_F_MULTI = 0x02,
    CLINUX_NLM_F_ACK = 0x04,
    CLINUX_NLM_F_CAPPED = 0x100,
    CLINUX_NLM_F_ACK_TLVS = 0x200,
    CLINUX_NLM_F_DUMP = 0x300,
    CLINUX_NLM_F_REPLACE = 0x100,
    CLINUX_NLM_F_EXCL = 0x200,
    CLINUX_NLM_F_CREATE = 0x400,
    CLINUX_RTM_NEWLINK = 16,
    CLINUX_RTM_DELLINK = 17,
    CLINUX_RTM_GETLINK = 18,
    CLINUX_RTM_NEWADDR = 20,
    CLINUX_RTM_DELADDR = 21,
    CLINUX_RTM_GETADDR = 22,
    CLINUX_RTM_NEWROUTE = 24,
    CLINUX_RTM_DELROUTE = 25,
    CLINUX_RTM_GETROUTE = 26,
    CLINUX_IFLA_IFNAME = 3,
    CLINUX_IFLA_MTU = 4,
    CLINUX_IFLA_TXQLEN = 13,
    CLINUX_IFLA_LINKINFO = 18,
    CLINUX_IFLA_GROUP = 27,
    CLINUX_IFLA_INFO_KIND = 1,
    CLINUX_IFA_ADDRESS = 1,
    CLINUX_IFA_LOCAL = 2,
    CLINUX_IFA_FLAGS = 8,
    CLINUX_IFA_F_NODAD = 0x02,
    CLINUX_RTA_DST = 1,
    CLINUX_RTA_OIF = 4,
    CLINUX_RTA_GATEWAY = 5,
    CLINUX_RTA_PRIORITY = 6,
    CLINUX_RTA_TABLE = 15,
    CLINUX_RT_TABLE_MAIN = 254,
    CLINUX_RTPROT_STATIC = 4,
    CLINUX_RT_SCOPE_UNIVERSE = 0,
    CLINUX_RT_SCOPE_LINK = 253,
    CLINUX_RTN_UNICAST = 1,
    CLINUX_RTNH_F_ONLINK = 4,
    CLINUX_NLMSGERR_ATTR_MSG = 1,
};

int clinux_netlink_socket(void);

#pragma GCC visibility pop

#endif
