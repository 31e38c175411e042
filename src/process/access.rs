//! Why a process may not be watched: the facts, the reason that follows from
//! them, and what mends it.
//!
//! The kernel answers all refusals alike, with EPERM. What it looked at is in
//! `/proc`, so the reason can be found again, in the order in which the kernel
//! checks (`man 2 ptrace`, "Ptrace access mode checking"; `ptrace_attach` and
//! `__ptrace_may_access` in `kernel/ptrace.c`; `security/yama/yama_lsm.c`).

use std::{fmt, fs, path::Path};

use self::status::Status;
use crate::task::Pid;

mod status;

/// The capability that lifts most of the limits (`man 7 capabilities`).
const CAP_SYS_PTRACE: u32 = 19;

/// What is so, about this program and about the process that it wants to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the process is there.
    pub exists: bool,
    /// Whether `/proc` shows it.
    pub visible: bool,
    /// Whether it is the kernel's own, without code of a user.
    pub kernel_thread: bool,
    /// Whether it has ended and waits for its parent to notice.
    pub zombie: bool,
    /// Who traces it already, by number and name.
    pub tracer: Option<(Pid, String)>,
    /// Our user and group, which act on files and processes.
    pub own: (u32, u32),
    /// Its real, effective and saved users.
    pub users: [u32; 3],
    /// Its real, effective and saved groups.
    pub groups: [u32; 3],
    /// Whether we have `CAP_SYS_PTRACE`, in our own user namespace.
    pub capable: bool,
    /// Whether it lives in a user namespace other than ours; `None` where that
    /// cannot be seen.
    pub other_namespace: Option<bool>,
    /// Whether its files in `/proc` belong to another user than it runs as: it
    /// has protected its memory, or changed its user.
    pub protected: bool,
    /// Whether it may do what we may not (its permitted capabilities are not
    /// among ours).
    pub mightier: bool,
    /// `kernel.yama.ptrace_scope`, where that module is.
    pub yama: Option<u8>,
    /// Whether it is a descendant of ours.
    pub descendant: bool,
    /// Whether our own system calls are filtered.
    pub filtered: bool,
    /// How a capability is had here.
    pub surroundings: Surroundings,
}

/// Where this program runs, which says how a capability is had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Surroundings {
    /// Where root has the capability: on the machine itself, or in a container
    /// that was given it.
    #[default]
    Host,
    /// In a container that was not given it.
    Container,
    /// In a pod that was not given it.
    Kubernetes,
}

/// Why a process may not be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    Gone,
    /// It is there, but `/proc` does not show it.
    Hidden,
    /// It has ended.
    Zombie,
    /// It has no code of a user.
    KernelThread,
    /// Only one can trace a process.
    Traced {
        /// Who traces it.
        by: Pid,
        /// The tracer's name, as it wrote it.
        name: String,
    },
    /// It runs as another user.
    OtherUser {
        /// The user that we are.
        own: u32,
        /// The first of its users that is not ours.
        theirs: u32,
    },
    /// It runs as another group.
    OtherGroup {
        /// The group that we are.
        own: u32,
        /// The first of its groups that is not ours.
        theirs: u32,
    },
    /// It lives in another user namespace, where our capabilities do not count.
    OtherNamespace,
    /// It does not let its own user look at it.
    Protected,
    /// It has capabilities that we lack.
    Mightier,
    /// Yama forbids it, by the value of `kernel.yama.ptrace_scope`.
    Yama(u8),
    /// A filter of our own system calls is what is left.
    Filtered,
    /// None of the facts forbids it.
    Unknown,
}

/// A reason, and where it holds, which says what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whether we have `CAP_SYS_PTRACE`.
    pub capable: bool,
    /// Where we run.
    pub surroundings: Surroundings,
}

impl Facts {
    /// The first of the kernel's conditions that these facts do not meet.
    pub fn reason(&self) -> Reason {
        let other = |own: u32, theirs: &[u32; 3]| theirs.iter().copied().find(|&id| id != own);
        if !self.exists {
            return Reason::Gone;
        }
        if !self.visible {
            return Reason::Hidden;
        }
        if self.zombie {
            return Reason::Zombie;
        }
        if self.kernel_thread {
            return Reason::KernelThread;
        }
        if let Some((by, name)) = &self.tracer {
            return Reason::Traced { by: *by, name: name.clone() };
        }
        let (user, group) = self.own;
        match (self.capable, self.other_namespace) {
            (true, Some(true)) => return Reason::OtherNamespace,
            (true, _) => {}
            (false, _) => {
                if let Some(theirs) = other(user, &self.users) {
                    return Reason::OtherUser { own: user, theirs };
                }
                if let Some(theirs) = other(group, &self.groups) {
                    return Reason::OtherGroup { own: group, theirs };
                }
                if self.protected {
                    return Reason::Protected;
                }
                if self.mightier {
                    return Reason::Mightier;
                }
            }
        }
        match self.yama {
            Some(scope @ 3..) => Reason::Yama(scope),
            Some(2) if !self.capable => Reason::Yama(2),
            Some(1) if !self.capable && !self.descendant => Reason::Yama(1),
            _ if self.filtered => Reason::Filtered,
            _ => Reason::Unknown,
        }
    }

    /// The reason, and what is needed to mend it.
    pub fn refusal(&self) -> Refusal {
        Refusal { reason: self.reason(), capable: self.capable, surroundings: self.surroundings }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it is not there, or has ended"),
            Self::Hidden => f.write_str("it is there, but /proc is mounted with hidepid and hides it"),
            Self::Zombie => f.write_str("it has ended, and only waits for its parent to notice"),
            Self::KernelThread => f.write_str("it is a thread of the kernel, and has no code of its own"),
            Self::Traced { by, name } => {
                write!(f, "it is already traced by process {by} ({name}), and only one can trace it")
            }
            Self::OtherUser { own, theirs } => {
                write!(f, "it runs as user {theirs} and spy as user {own}, without CAP_SYS_PTRACE")
            }
            Self::OtherGroup { own, theirs } => {
                write!(f, "it runs as group {theirs} and spy as group {own}, without CAP_SYS_PTRACE")
            }
            Self::OtherNamespace => {
                f.write_str("it lives in another user namespace, where spy's capabilities do not count")
            }
            Self::Protected => f.write_str(
                "it is not dumpable (it changed its user, or its program may not be read), \
                 and spy has no CAP_SYS_PTRACE",
            ),
            Self::Mightier => f.write_str("it has capabilities that spy lacks"),
            Self::Yama(1) => f.write_str(
                "kernel.yama.ptrace_scope is 1: without CAP_SYS_PTRACE, only descendants may be watched",
            ),
            Self::Yama(2) => {
                f.write_str("kernel.yama.ptrace_scope is 2: nobody may without CAP_SYS_PTRACE")
            }
            Self::Yama(scope) => {
                write!(f, "kernel.yama.ptrace_scope is {scope}: nobody may, until the next boot")
            }
            Self::Filtered => f.write_str(
                "the kernel refused, and spy's own system calls are filtered by seccomp",
            ),
            Self::Unknown => f.write_str(
                "the kernel refused, and neither users, capabilities nor yama say why: \
                 look at SELinux (deny_ptrace) or AppArmor",
            ),
        }
    }
}

impl Refusal {
    /// What to type next, where something helps. `again` is the command that
    /// was refused.
    pub fn mend(&self, again: &str) -> Option<String> {
        Some(match (&self.reason, self.surroundings) {
            (Reason::Gone | Reason::Zombie | Reason::KernelThread, _) => return None,
            (Reason::Traced { by, .. }, _) => format!("kill {by}   # ends the tracer; what it traced goes on"),
            (Reason::Yama(3..), _) => return None,
            (Reason::Filtered, Surroundings::Host) => {
                format!("{again}   # outside the sandbox that filters it")
            }
            (Reason::Filtered, _) => {
                "docker run --cap-add SYS_PTRACE --security-opt seccomp=unconfined …".to_owned()
            }
            (Reason::Unknown, _) => "dmesg | tail   # the module that refused may have said so".to_owned(),
            (Reason::OtherNamespace, _) => format!("sudo {again}   # outside, in the first namespace"),
            (_, Surroundings::Kubernetes) => {
                "kubectl debug -it POD --image=IMAGE --target=CONTAINER --profile=sysadmin -- sh"
                    .to_owned()
            }
            (_, Surroundings::Container) => {
                "docker run --cap-add SYS_PTRACE …   # a new container; compose: cap_add: [SYS_PTRACE]"
                    .to_owned()
            }
            (_, Surroundings::Host) => format!("sudo {again}"),
        })
    }
}

/// What is so about `pid`, and about us.
pub fn facts(pid: Pid) -> Facts {
    let directory = Path::new("/proc").join(pid.to_string());
    let own = Status::read(Path::new("/proc/self")).unwrap_or_default();
    let status = Status::read(&directory);
    let visible = status.is_some();
    let status = status.unwrap_or_default();
    Facts {
        // The null signal asks the kernel itself, whatever `/proc` shows.
        exists: visible || exists(pid),
        visible,
        kernel_thread: status.is_kernel_thread(),
        zombie: status.state == Some('Z') || status.state == Some('X'),
        tracer: status.tracer.map(|tracer| {
            let name = Status::read(&Path::new("/proc").join(tracer.to_string()));
            (Pid(tracer), name.map_or_else(|| "in another namespace".to_owned(), |it| it.name))
        }),
        own: (own.filesystem_user, own.filesystem_group),
        users: status.users,
        groups: status.groups,
        capable: own.effective >> CAP_SYS_PTRACE & 1 == 1,
        other_namespace: other_namespace(&directory),
        protected: is_protected(&directory, &status),
        mightier: status.permitted & !own.permitted != 0,
        yama: fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
            .ok()
            .and_then(|scope| scope.trim().parse().ok()),
        descendant: is_descendant(status.parent, own.pid),
        filtered: own.seccomp != 0,
        surroundings: surroundings(&own),
    }
}

/// A process that has the number `inner` in a namespace of its own, below ours.
pub fn namesake(inner: Pid) -> Option<Pid> {
    let mut found: Vec<Pid> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let outer: i32 = path.file_name()?.to_str()?.parse().ok()?;
            let status = Status::read(&path)?;
            (status.innermost == Some(inner.0) && outer != inner.0).then_some(Pid(outer))
        })
        .collect();
    // With several containers, each has one, and any would be a guess.
    found.pop().filter(|_| found.is_empty())
}

fn exists(pid: Pid) -> bool {
    use nix::{errno::Errno, sys::signal};
    let answer = signal::kill(nix::unistd::Pid::from_raw(pid.0), None);
    pid.0 > 0 && matches!(answer, Ok(()) | Err(Errno::EPERM))
}

fn other_namespace(directory: &Path) -> Option<bool> {
    let own = fs::read_link("/proc/self/ns/user").ok()?;
    let theirs = fs::read_link(directory.join("ns/user")).ok()?;
    Some(own != theirs)
}

/// Files of a process that is not dumpable belong to root (`man 5 proc`). Of
/// a process that is root's, the same cannot be told, nor does it matter.
fn is_protected(directory: &Path, status: &Status) -> bool {
    use std::os::unix::fs::MetadataExt;
    let [_, effective, _] = status.users;
    fs::metadata(directory.join("environ")).is_ok_and(|file| file.uid() != effective)
}

fn is_descendant(parent: i32, own: i32) -> bool {
    let mut at = parent;
    // Bounded, since processes come and go while the chain is walked.
    for _ in 0..1000 {
        if at == own {
            return true;
        }
        let Some(status) = Status::read(&Path::new("/proc").join(at.to_string())) else { break };
        at = status.parent;
    }
    false
}

fn surroundings(own: &Status) -> Surroundings {
    let there = |path: &str| Path::new(path).exists();
    if own.bounding >> CAP_SYS_PTRACE & 1 == 1 {
        Surroundings::Host
    } else if there("/var/run/secrets/kubernetes.io") {
        Surroundings::Kubernetes
    } else if there("/.dockerenv") || there("/run/.containerenv") {
        Surroundings::Container
    } else {
        Surroundings::Host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Facts {
        Facts {
            exists: true,
            visible: true,
            own: (1000, 1000),
            users: [1000; 3],
            groups: [1000; 3],
            other_namespace: Some(false),
            ..Facts::default()
        }
    }

    #[test]
    fn the_reason_follows_from_the_facts() {
        let check = |change: fn(&mut Facts), reason: Reason| {
            let mut facts = allowed();
            change(&mut facts);
            assert_eq!(facts.reason(), reason, "{facts:?}");
        };
        check(|_| {}, Reason::Unknown);
        check(|facts| facts.exists = false, Reason::Gone);
        check(|facts| facts.visible = false, Reason::Hidden);
        check(|facts| facts.zombie = true, Reason::Zombie);
        check(|facts| facts.kernel_thread = true, Reason::KernelThread);
        let traced = Reason::Traced { by: Pid(9), name: "gdb".to_owned() };
        check(|facts| facts.tracer = Some((Pid(9), "gdb".to_owned())), traced);
        check(|facts| facts.users[2] = 0, Reason::OtherUser { own: 1000, theirs: 0 });
        check(|facts| facts.groups[0] = 33, Reason::OtherGroup { own: 1000, theirs: 33 });
        check(|facts| facts.protected = true, Reason::Protected);
        check(|facts| facts.mightier = true, Reason::Mightier);
        check(|facts| facts.yama = Some(1), Reason::Yama(1));
        check(|facts| facts.yama = Some(2), Reason::Yama(2));
        check(|facts| facts.filtered = true, Reason::Filtered);
    }

    #[test]
    fn the_capability_lifts_what_the_kernel_says_it_lifts() {
        let mut facts = Facts { capable: true, users: [0; 3], protected: true, ..allowed() };
        facts.yama = Some(2);
        assert_eq!(facts.reason(), Reason::Unknown);
        facts.yama = Some(3);
        assert_eq!(facts.reason(), Reason::Yama(3));
        facts.other_namespace = Some(true);
        assert_eq!(facts.reason(), Reason::OtherNamespace);
        let child = Facts { yama: Some(1), descendant: true, ..allowed() };
        assert_eq!(child.reason(), Reason::Unknown);
    }

    #[test]
    fn what_mends_depends_on_where_we_are() {
        let mend = |reason: Reason, surroundings| {
            Refusal { reason, capable: false, surroundings }.mend("spy dump -p 1")
        };
        let user = Reason::OtherUser { own: 1, theirs: 0 };
        assert_eq!(mend(user.clone(), Surroundings::Host).unwrap(), "sudo spy dump -p 1");
        assert!(mend(user.clone(), Surroundings::Container).unwrap().contains("SYS_PTRACE"));
        assert!(mend(user, Surroundings::Kubernetes).unwrap().contains("kubectl debug"));
        assert_eq!(mend(Reason::KernelThread, Surroundings::Host), None);
        assert_eq!(mend(Reason::Yama(3), Surroundings::Host), None);
    }

    #[test]
    fn the_facts_about_ourselves_can_be_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        let facts = facts(Pid(own));
        assert!(facts.exists && facts.visible && !facts.zombie && !facts.kernel_thread);
        assert_eq!(facts.other_namespace, Some(false));
        assert_eq!(facts.users[1], nix::unistd::geteuid().as_raw());
        assert!(!super::facts(Pid(i32::MAX)).exists);
    }
}
