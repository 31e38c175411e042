//! What a thread waits for, for programs; `docs/json.md` says what the keys
//! mean.

use serde_json::{Value, json};

use super::{
    Child, Connection, Count, Descriptor, End, FileLock, Futex, Object, Parties, Party, Place,
    Polled, Protocol, Socket, Subject, Timeout, Wait, words::Signals,
};

impl Wait {
    /// The wait as JSON. Texts are as the target wrote them, but for `text`,
    /// which may go to a terminal.
    pub fn json(&self) -> Value {
        let mut all = json!({
            "text": self.to_string(),
            "timeout_seconds": match self.timeout {
                Some(Timeout::After(span) | Timeout::At(Some(span))) => Some(span.as_secs_f64()),
                Some(Timeout::At(None)) | None => None,
            },
        });
        let mut set = |key: &str, value: Value| {
            if let Some(map) = all.as_object_mut() {
                map.insert(key.to_owned(), value);
            }
        };
        if let Some(Descriptor { fd, object }) = &self.descriptor {
            set("fd", (*fd).into());
            set("object", object.json());
        }
        match &self.subject {
            Subject::Nothing | Subject::Time => {}
            Subject::Lock(lock) => set("lock", lock.json()),
            Subject::Futex(futex) => set("futex", futex.json()),
            Subject::Poll(polled) => set("polled", polled.json()),
            Subject::Child(child) => set("child", child.json()),
            Subject::Signals(signals) => set("signals", Signals(*signals).names().into()),
        }
        all
    }
}

impl Object {
    fn json(&self) -> Value {
        match self {
            Self::Unknown => Value::Null,
            Self::File(path) => json!({ "kind": "file", "path": path }),
            Self::Pipe { inode, end, others } => json!({
                "kind": "pipe",
                "inode": inode,
                "end": match end { End::Reading => "read", End::Writing => "write" },
                "peers": others.json(),
            }),
            Self::EventFd { count } => json!({ "kind": "eventfd", "count": count }),
            Self::TimerFd { due } => {
                json!({ "kind": "timerfd", "due_seconds": due.map(|due| due.as_secs_f64()) })
            }
            Self::SignalFd(set) => json!({ "kind": "signalfd", "signals": Signals(*set).names() }),
            Self::Inotify(count) => counted("inotify", "watches", *count),
            Self::Epoll(count) => counted("epoll", "descriptors", *count),
            Self::PidFd(party) => {
                json!({ "kind": "pidfd", "process": party.as_ref().map(Party::json) })
            }
            Self::Socket(socket) => socket.json(),
            Self::Other(name) => json!({ "kind": "other", "name": name }),
        }
    }
}

fn counted(kind: &str, what: &str, count: Count) -> Value {
    json!({ "kind": kind, what: count.number, "more": count.more })
}

impl Socket {
    fn json(&self) -> Value {
        json!({
            "kind": "socket",
            "inode": self.inode,
            "protocol": self.protocol.map(Protocol::name),
            "local": self.local.as_ref().map(Place::json),
            "remote": self.remote.as_ref().map(Place::json),
            "state": self.state.map(Connection::name),
            "unaccepted": self.unaccepted,
            "waiting": self.queue.map(|queue| queue.waiting),
            "backlog": self.queue.and_then(|queue| queue.limit),
            "peers": self.peer.json(),
        })
    }
}

impl Place {
    fn json(&self) -> Value {
        match self {
            Self::Inet(address) => address.to_string().into(),
            Self::Path(path) => path.as_str().into(),
        }
    }
}

impl Party {
    fn json(&self) -> Value {
        json!({ "pid": self.pid.0, "command": self.command })
    }
}

impl Parties {
    fn json(&self) -> Value {
        json!({
            "own": self.own,
            "others": self.others.iter().map(Party::json).collect::<Vec<_>>(),
            "more": self.more,
        })
    }
}

impl FileLock {
    fn json(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "exclusive": self.exclusive,
            "first": self.range.map(|(first, _)| first),
            "last": self.range.and_then(|(_, last)| last),
            "holder": self.holder.as_ref().map(Party::json),
        })
    }
}

impl Futex {
    fn json(&self) -> Value {
        let (kind, owner) = match self {
            Self::Plain => ("futex", None),
            Self::Mutex(owner) => ("mutex", Some(*owner)),
            Self::PriorityInheriting(owner) => ("priority_inheriting", *owner),
            Self::End(thread) => ("thread_end", Some(*thread)),
            Self::Runtime(lock) => ("runtime", lock.owner),
        };
        let name = match self {
            Self::Runtime(lock) => Some(lock.name.as_str()),
            _ => None,
        };
        json!({ "kind": kind, "thread": owner.map(|owner| owner.0), "name": name })
    }
}

impl Polled {
    fn json(&self) -> Value {
        let each =
            |Descriptor { fd, object }: &Descriptor| json!({ "fd": fd, "object": object.json() });
        json!({ "count": self.count, "first": self.first.iter().map(each).collect::<Vec<_>>() })
    }
}

impl Child {
    fn json(&self) -> Value {
        match self {
            Self::Any => json!({ "kind": "any" }),
            Self::Group(group) => json!({ "kind": "group", "number": group }),
            Self::One { number, party } => json!({
                "kind": "one",
                "number": number,
                "process": party.as_ref().map(Party::json),
            }),
        }
    }
}
