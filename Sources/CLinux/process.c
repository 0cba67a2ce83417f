#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <stdint.h>
#include <malloc.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t clinux_fork(void) {
    pid_t pid = fork();
    return pid < 0 ? -errno : pid;
}

int clinux_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) < 0 ? -errno : CPU_COUNT(&set);
}

int clinux_pidfd_open(pid_t pid) {
#ifdef SYS_pidfd_open
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
#else
    (void)pid;
    return -ENOSYS;
#endif
}

int clinux_execute(const char *path, char *const *arguments, char *const *environment) {
    execve(path, arguments, environment);
    return -errno;
}

char **clinux_environment(void) { return environ; }

// MARK: - fork and exec

static void reset_signals(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) (void)sigaction(number, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/// A copy of `fd` (of /dev/null for -1) with a number of at least 10, clear of those that are given out; or -1.
static int lifted(int fd) {
    if (fd >= 0) return fcntl(fd, F_DUPFD_CLOEXEC, 10);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return -1;
    int copy = fcntl(null, F_DUPFD_CLOEXEC, 10);
    close(null);
    return copy;
}

/// Only async-signal-safe calls: it runs between fork and exec. Returns only on failure.
static void become(const struct clinux_spawn_request *request, int report) {
    reset_signals();
    if (request->new_session && setsid() < 0) return;
    if (chdir("/") < 0) return;
    int sources[4] = {request->standard_input, request->standard_output, request->standard_error, request->channel};
    int count = request->channel >= 0 ? 4 : 3;
    for (int index = 0; index < count; index++) {
        sources[index] = lifted(sources[index]);
        if (sources[index] < 0) return;
    }
    report = fcntl(report, F_DUPFD_CLOEXEC, 10);
    if (report < 0) return;
    for (int index = 0; index < count; index++) {
        if (dup2(sources[index], index) < 0) return;
    }
    if (clinux_close_all_but((unsigned)count, &report, 1) < 0) return;
    execve(request->path, request->arguments, request->environment);
    int error = errno;
    ssize_t ignored = write(report, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

pid_t clinux_spawn(const struct clinux_spawn_request *request) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    // No handler of ours may run in the child, which shares nothing of what handlers expect.
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        become(request, report[1]);
        int error = errno ? errno : EIO;
        ssize_t ignored = write(report[1], &error, sizeof error);
        (void)ignored;
        _exit(127);
    }
    int fork_error = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return -fork_error;
    }
    int error = 0;
    ssize_t got;
    do {
        got = read(report[0], &error, sizeof error);
    } while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got != sizeof error) return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    return -error;
}

/// What getdents64(2) writes; the C library does not declare it.
struct directory_entry {
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/// Closes what /proc lists; async-signal-safe, as opendir(3) is not.
static int close_listed(unsigned int first, unsigned int last) {
    int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return -errno;
    _Alignas(struct directory_entry) char buffer[4096];
    long size;
    while ((size = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) {
        const struct directory_entry *entry;
        for (long offset = 0; offset < size; offset += entry->size) {
            entry = (const struct directory_entry *)(buffer + offset);
            if (entry->name[0] < '0' || entry->name[0] > '9') continue;
            unsigned int fd = 0;
            for (const char *digit = entry->name; *digit; digit++) fd = fd * 10 + (unsigned)(*digit - '0');
            if (fd >= first && fd <= last && fd != (unsigned)directory) close((int)fd);
        }
    }
    int error = size < 0 ? -errno : 0;
    close(directory);
    return error;
}

static int close_range_of(unsigned int first, unsigned int last) {
    if (first > last) return 0;
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, last, 0) == 0) return 0;
    // Containers refuse calls that are newer than their rules.
    if (errno != ENOSYS && errno != EPERM) return -errno;
#endif
    return close_listed(first, last);
}

int clinux_close_all_but(unsigned int first, const int *keep, size_t keep_count) {
    for (size_t index = 0; index < keep_count; index++) {
        if (keep[index] < 0 || (unsigned)keep[index] < first) continue;
        if (keep[index] > 0) {
            int error = close_range_of(first, (unsigned)keep[index] - 1);
            if (error < 0) return error;
        }
        first = (unsigned)keep[index] + 1;
    }
    return close_range_of(first, ~0U);
}

// MARK: - Privileges

int clinux_set_user(uid_t user) { return setresuid(user, user, user) < 0 ? -errno : 0; }

int clinux_set_group(gid_t group) { return setresgid(group, group, group) < 0 ? -errno : 0; }

int clinux_is_identity(uid_t user, gid_t group) {
    uid_t users[3];
    gid_t groups[3];
    if (getresuid(&users[0], &users[1], &users[2]) < 0 || getresgid(&groups[0], &groups[1], &groups[2]) < 0) return 0;
    for (int index = 0; index < 3; index++) {
        if (users[index] != user || groups[index] != group) return 0;
    }
    return 1;
}

int clinux_set_no_new_privileges(void) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int clinux_drop_bounding_capabilities(void) {
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
        // EINVAL: the last one that this kernel knows has been dropped.
        if (errno == EINVAL && capability > 0) break;
        return -errno;
    }
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ? -errno : 0;
}

int clinux_drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

int clinux_has_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct left[2] = {{0}};
    if (syscall(SYS_capget, &header, left) < 0) return -errno;
    uint32_t any = 0;
    for (int index = 0; index < 2; index++) {
        any |= left[index].effective | left[index].permitted | left[index].inheritable;
    }
    return any != 0;
}

// MARK: - System-call filter

#if defined(__x86_64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "give this architecture's AUDIT_ARCH constant"
#endif

enum { FILTER_CAPACITY = 1024 };

struct filter {
    struct sock_filter code[FILTER_CAPACITY];
    unsigned short count;
};

static void add(struct filter *filter, struct sock_filter instruction) {
    if (filter->count < FILTER_CAPACITY) filter->code[filter->count] = instruction;
    filter->count++;
}

#define LOAD(field) (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (field))
#define RETURN(value) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, (value))
#define JUMP(how, k, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | (how) | BPF_K, (k), (yes), (no))

enum {
    NUMBER = offsetof(struct seccomp_data, nr),
    ARCHITECTURE = offsetof(struct seccomp_data, arch),
    // The low halves, on little-endian machines, which both supported architectures are.
    ARGUMENT_0 = offsetof(struct seccomp_data, args[0]),
    ARGUMENT_2 = offsetof(struct seccomp_data, args[2]),
};

static void add_verdict(struct filter *filter, int number, uint32_t verdict) {
    add(filter, JUMP(BPF_JEQ, (uint32_t)number, 0, 1));
    add(filter, RETURN(verdict));
}

/// Call `number` is let through when `bits` of an argument are all clear (or, with `wanted`, one is set); else it kills.
static void add_bit_check(struct filter *filter, int number, uint32_t argument, uint32_t bits, int wanted) {
    add(filter, JUMP(BPF_JEQ, (uint32_t)number, 0, 4));
    add(filter, LOAD(argument));
    add(filter, JUMP(BPF_JSET, bits, wanted ? 0 : 1, wanted ? 1 : 0));
    add(filter, RETURN(SECCOMP_RET_ALLOW));
    add(filter, RETURN(SECCOMP_RET_KILL_PROCESS));
}

int clinux_seccomp_install(const int *allowed, size_t allowed_count, const int *refused, size_t refused_count) {
    static struct filter filter;
    filter.count = 0;
    add(&filter, LOAD(ARCHITECTURE));
    add(&filter, JUMP(BPF_JEQ, OUR_ARCHITECTURE, 1, 0));
    add(&filter, RETURN(SECCOMP_RET_KILL_PROCESS));
    add(&filter, LOAD(NUMBER));
#if defined(__x86_64__)
    // The x32 calls have the same architecture and other numbers.
    add(&filter, JUMP(BPF_JGE, 0x40000000, 0, 1));
    add(&filter, RETURN(SECCOMP_RET_KILL_PROCESS));
#endif
    for (size_t index = 0; index < allowed_count; index++) add_verdict(&filter, allowed[index], SECCOMP_RET_ALLOW);
    for (size_t index = 0; index < refused_count; index++) {
        add_verdict(&filter, refused[index], SECCOMP_RET_ERRNO | EPERM);
    }
    add_verdict(&filter, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    add_bit_check(&filter, SYS_mmap, ARGUMENT_2, PROT_EXEC, 0);
    add_bit_check(&filter, SYS_mprotect, ARGUMENT_2, PROT_EXEC, 0);
    add_bit_check(&filter, SYS_clone, ARGUMENT_0, CLONE_THREAD, 1);
    add(&filter, JUMP(BPF_JEQ, SYS_prctl, 0, 3));
    add(&filter, LOAD(ARGUMENT_0));
    add(&filter, JUMP(BPF_JEQ, PR_SET_NAME, 0, 1));
    add(&filter, RETURN(SECCOMP_RET_ALLOW));
    add(&filter, RETURN(SECCOMP_RET_KILL_PROCESS));
    if (filter.count > FILTER_CAPACITY) return -E2BIG;
    struct sock_fprog program = {.len = filter.count, .filter = filter.code};
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (result > 0) return -ESRCH;  // A thread could not be synchronised.
    return result < 0 ? -errno : 0;
}

// MARK: - Process title

static char *title_start;
static size_t title_size;

/// The C library hands constructors the program's arguments, before anyone can have changed them.
__attribute__((constructor)) static void remember_arguments(int count, char **arguments, char **environment) {
    if (count < 1 || !arguments || !arguments[0]) return;
    char *start = arguments[0], *end = start;
    // Arguments and environment lie one behind the other; stop where they do not.
    for (int index = 0; index < count && arguments[index] == end; index++) end += strlen(end) + 1;
    for (char **variable = environment; variable && *variable == end && *variable; variable++) end += strlen(end) + 1;
    title_start = start;
    title_size = (size_t)(end - start);
}

static int environment_has_moved;

/// The title will lie over the environment: give every variable memory of its own first.
static void move_environment(void) {
    size_t count = 0;
    while (environ && environ[count]) count++;
    char **copy = calloc(count + 1, sizeof *copy);
    if (!copy) return;
    for (size_t index = 0; index < count; index++) {
        copy[index] = strdup(environ[index]);
        if (!copy[index]) return;
    }
    environ = copy;
    environment_has_moved = 1;
}

void clinux_set_name(const char *name) { (void)prctl(PR_SET_NAME, name, 0, 0, 0); }

size_t clinux_title_capacity(void) { return title_size; }

void clinux_title_set(const char *title) {
    if (!environment_has_moved) move_environment();
    if (!environment_has_moved || title_size < 2) return;
    size_t length = strnlen(title, title_size - 1);
    // Zeros to the end: ps would show them as the spaces between arguments otherwise.
    memset(title_start + length, 0, title_size - length);
    memcpy(title_start, title, length);
}

// MARK: - Events, memory and time

void clinux_release_memory(void) {
    (void)malloc_trim(0);
    // Pages of the stack below us hold what calls left there. What lies below the stack itself, if anything were mapped
    // so close, would be further away than the kernel's guard gap allows; unmapped parts are passed over.
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), reach = 32 * page;
    uintptr_t end = ((uintptr_t)__builtin_frame_address(0) - page) & ~(page - 1);
    if (end > reach) (void)madvise((void *)(end - reach), reach, MADV_DONTNEED);
}

int clinux_eventfd(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int clinux_signalfd(const int *signals, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t index = 0; index < count; index++) sigaddset(&set, signals[index]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0) return -error;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int clinux_memory_file(const char *name, size_t size) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    // The owner alone may open it anew (/proc/PID/fd/N): who gets a read-only descriptor cannot make it writable.
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0
        || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int clinux_epoll_wait(int fd, struct epoll_event *events, int maximum, int64_t timeout) {
    int count;
#ifdef SYS_epoll_pwait2
    static int is_missing;
    if (!__atomic_load_n(&is_missing, __ATOMIC_RELAXED)) {
        struct timespec time = {.tv_sec = timeout / 1000000000, .tv_nsec = timeout % 1000000000};
        count = (int)syscall(SYS_epoll_pwait2, fd, events, maximum, timeout < 0 ? NULL : &time, NULL, (size_t)8);
        if (count >= 0) return count;
        if (errno != ENOSYS && errno != EPERM) return -errno;
        __atomic_store_n(&is_missing, 1, __ATOMIC_RELAXED);
    }
#endif
    // Rounded up: a timer that is not due yet must not spin.
    int64_t milliseconds = timeout < 0 ? -1 : (timeout + 999999) / 1000000;
    count = epoll_wait(fd, events, maximum, milliseconds > INT32_MAX ? INT32_MAX : (int)milliseconds);
    return count < 0 ? -errno : count;
}
