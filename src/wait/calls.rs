//! What the arguments of system calls mean, as far as they say what is waited
//! for: section 2 of the manual, call by call.

use crate::task::Syscall;

/// What the arguments of a call mean. Numbers are those of arguments, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The descriptor that the call is about.
    pub descriptor: Option<usize>,
    /// What it is about besides.
    pub topic: Topic,
    /// Where its timeout is.
    pub limit: Limit,
}

/// What a call is about besides a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Nothing.
    Nothing,
    /// The timeout alone.
    Time,
    /// `flock`: the operation is argument 1.
    Flock,
    /// `fcntl`: the command is argument 1, a `struct flock` argument 2.
    Fcntl,
    /// `futex`: the word is argument 0, the operation argument 1.
    Futex,
    /// A `struct pollfd` array is argument 0, its length argument 1.
    Poll,
    /// The highest descriptor and one more is argument 0, three sets follow.
    Select,
    /// `wait4`: the child is argument 0.
    Wait,
    /// `waitid`: its kind is argument 0, the child argument 1.
    WaitId,
    /// A set of signals is behind argument 0.
    Signals,
}

/// Where a timeout is, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// There is none.
    None,
    /// Milliseconds; a negative number is none.
    Milliseconds(usize),
    /// A pointer to a `struct timespec`, or null for none.
    Span(usize),
    /// A pointer to a `struct timeval`, or null for none.
    Micro(usize),
    /// A pointer to a `struct timespec`, which is a time of `CLOCK_REALTIME`.
    Moment(usize),
    /// `clock_nanosleep`: the clock, flags, and a `struct timespec`.
    Sleep,
    /// `futex`: argument 3, whose meaning depends on the operation.
    Futex,
    /// `futex_waitv`: a time behind argument 3 of the clock in argument 4.
    Waitv,
}

impl Shape {
    const NOTHING: Self = Self { descriptor: None, topic: Topic::Nothing, limit: Limit::None };
    const FIRST: Self = Self { descriptor: Some(0), ..Self::NOTHING };

    /// What the arguments of `call` mean.
    pub fn of(call: Syscall) -> Self {
        call.name().map_or(Self::NOTHING, Self::named)
    }

    fn named(name: &str) -> Self {
        let about = |topic, limit| Self { descriptor: None, topic, limit };
        let first = |topic, limit| Self { descriptor: Some(0), topic, limit };
        match name {
            "nanosleep" => about(Topic::Time, Limit::Span(0)),
            "clock_nanosleep" => about(Topic::Time, Limit::Sleep),
            "poll" => about(Topic::Poll, Limit::Milliseconds(2)),
            "ppoll" => about(Topic::Poll, Limit::Span(2)),
            "select" => about(Topic::Select, Limit::Micro(4)),
            "pselect6" => about(Topic::Select, Limit::Span(4)),
            "futex" => about(Topic::Futex, Limit::Futex),
            "futex_waitv" => about(Topic::Nothing, Limit::Waitv),
            "wait4" => about(Topic::Wait, Limit::None),
            "waitid" => about(Topic::WaitId, Limit::None),
            "rt_sigtimedwait" => about(Topic::Signals, Limit::Span(2)),
            "semtimedop" => about(Topic::Nothing, Limit::Span(3)),
            "io_getevents" | "io_pgetevents" => about(Topic::Nothing, Limit::Span(4)),
            "flock" => first(Topic::Flock, Limit::None),
            "fcntl" => first(Topic::Fcntl, Limit::None),
            "epoll_wait" | "epoll_pwait" => first(Topic::Nothing, Limit::Milliseconds(3)),
            "epoll_pwait2" => first(Topic::Nothing, Limit::Span(3)),
            "recvmmsg" => first(Topic::Nothing, Limit::Span(4)),
            "mq_timedsend" | "mq_timedreceive" => first(Topic::Nothing, Limit::Moment(4)),
            "mmap" => Self { descriptor: Some(4), ..Self::NOTHING },
            _ if FIRST.binary_search(&name).is_ok() => Self::FIRST,
            _ => Self::NOTHING,
        }
    }
}

/// The other calls whose first argument is a descriptor, in the order of the
/// alphabet.
const FIRST: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "cachestat",
    "close",
    "connect",
    "copy_file_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_ctl",
    "execveat",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fanotify_mark",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fdatasync",
    "fgetxattr",
    "finit_module",
    "flistxattr",
    "fremovexattr",
    "fsconfig",
    "fsetxattr",
    "fsmount",
    "fspick",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futimesat",
    "getdents",
    "getdents64",
    "getpeername",
    "getsockname",
    "getsockopt",
    "inotify_add_watch",
    "inotify_rm_watch",
    "io_uring_enter",
    "io_uring_register",
    "ioctl",
    "kexec_file_load",
    "linkat",
    "listen",
    "lseek",
    "mkdirat",
    "mknodat",
    "mount_setattr",
    "move_mount",
    "mq_getsetattr",
    "mq_notify",
    "name_to_handle_at",
    "newfstatat",
    "open_by_handle_at",
    "open_tree",
    "openat",
    "openat2",
    "pidfd_getfd",
    "pidfd_send_signal",
    "pread64",
    "preadv",
    "preadv2",
    "process_madvise",
    "process_mrelease",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "quotactl_fd",
    "read",
    "readahead",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "renameat",
    "renameat2",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setns",
    "setsockopt",
    "shutdown",
    "signalfd",
    "signalfd4",
    "splice",
    "statx",
    "sync_file_range",
    "syncfs",
    "tee",
    "timerfd_gettime",
    "timerfd_settime",
    "unlinkat",
    "utimensat",
    "vmsplice",
    "write",
    "writev",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched_and_names_calls() {
        assert!(FIRST.is_sorted());
        // Each of them is a call of one of the machines; of this one most are.
        let known = |name: &&&str| syscalls::Sysno::iter().any(|call| call.name() == **name);
        assert!(FIRST.iter().filter(known).count() > FIRST.len() - 10);
    }

    #[test]
    fn arguments_mean_what_the_manual_says() {
        let of = |number: libc::c_long| Shape::of(Syscall(u32::try_from(number).unwrap()));
        assert_eq!(of(libc::SYS_read), Shape::FIRST);
        assert_eq!(of(libc::SYS_getpid), Shape::NOTHING);
        assert_eq!(of(libc::SYS_mmap).descriptor, Some(4));
        assert_eq!(of(libc::SYS_flock).topic, Topic::Flock);
        assert_eq!(of(libc::SYS_epoll_pwait).limit, Limit::Milliseconds(3));
        assert_eq!(Shape::of(Syscall(99_999)), Shape::NOTHING);
    }
}
