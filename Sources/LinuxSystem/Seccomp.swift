import CLinux

/// The system calls that a process will ever make again (seccomp(2)); any other ends it with SIGSYS.
public enum Seccomp {
    /// Installs the filter for every thread, for good. Needs no_new_privs.
    ///
    /// - Parameters:
    ///   - allowed: numbers (`SYS_…`) that work. mmap and mprotect (without PROT_EXEC), clone (threads only) and
    ///     prctl (PR_SET_NAME only) always do.
    ///   - refused: numbers that fail with EPERM instead of ending the process.
    public static func install(allowing allowed: [Int32], refusing refused: [Int32] = []) throws(SystemError) {
        try checked(
            clinux_seccomp_install(allowed, allowed.count, refused, refused.count), "install the system-call filter")
    }

    /// What a process needs that sends and receives on descriptors it is given, with threads, memory and clocks.
    public static var dataPlane: [Int32] {
        var calls = [
            SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_close,
            SYS_dup, SYS_fcntl, SYS_setsockopt, SYS_getsockopt, SYS_getsockname, SYS_epoll_create1, SYS_epoll_ctl,
            SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2, SYS_futex, SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk,
            SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
            SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_sigaltstack, SYS_getpid, SYS_gettid, SYS_tgkill,
            SYS_set_robust_list, SYS_rseq, SYS_sched_yield, SYS_sched_getaffinity, SYS_getrandom, SYS_restart_syscall,
            SYS_fstat, SYS_newfstatat, SYS_lseek, SYS_getrusage, SYS_membarrier, SYS_sendto,
            SYS_ppoll,
        ]
        #if arch(x86_64)
        calls += [SYS_epoll_wait, SYS_poll, SYS_time, SYS_gettimeofday]
        #endif
        return calls
    }

    /// What a C library may try in passing and does without: kinder to refuse than to die of.
    public static var harmlessWhenRefused: [Int32] {
        [SYS_openat, SYS_readlinkat, SYS_faccessat, SYS_ioctl, SYS_socket, SYS_connect, SYS_prlimit64, SYS_uname]
    }
}
