//! Asking and telling.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use mesh_testkit::http::{Answer, Connection, Speak};
use mesh_testkit::namespace::Namespace;

/// Who asks what, where.
pub(crate) struct Ask<'a> {
    /// Namespace of the asker; the demo's own when there is none.
    pub(crate) from: Option<&'a Namespace>,
    /// Address dialled.
    pub(crate) to: SocketAddr,
    /// Protocol.
    pub(crate) speak: Speak,
    /// Host and path.
    pub(crate) url: (&'a str, &'a str),
    /// Request headers.
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

impl<'a> Ask<'a> {
    /// A plain `GET` over HTTP/1.1.
    pub(crate) fn get(from: &'a Namespace, to: SocketAddr, host: &'a str, path: &'a str) -> Self {
        Self { from: Some(from), to, speak: Speak::Http1, url: (host, path), headers: &[] }
    }

    /// The connection, open.
    pub(crate) fn open(&self) -> anyhow::Result<Connection> {
        let stream = match self.from {
            Some(namespace) => namespace.connect(self.to)?,
            None => TcpStream::connect_timeout(&self.to, Duration::from_secs(5))
                .with_context(|| format!("cannot connect to {}", self.to))?,
        };
        Connection::open(stream, &self.speak)
    }

    /// One request on a connection of its own.
    pub(crate) fn send(&self) -> anyhow::Result<Answer> {
        self.open()?.call("GET", self.url.0, self.url.1, self.headers)
    }
}

/// Tells scenes and keeps count of what was wrong.
#[derive(Default)]
pub(crate) struct Story {
    scenes: u32,
    wrong: u32,
}

impl Story {
    /// Begins a scene.
    pub(crate) fn scene(&mut self, title: &str) {
        self.scenes += 1;
        println!("\n{}. {title}", self.scenes);
    }

    /// A fact, with what it is about.
    pub(crate) fn tell(&self, about: &str, fact: &str) {
        println!("   {about:<8} {fact}");
    }

    /// An answer: status, and what the backend saw.
    pub(crate) fn tell_answer(&self, answer: &Answer) {
        let seen = answer.json();
        let text = |name: &str| seen[name].as_str().map(str::to_owned);
        let Some(pod) = text("pod") else {
            let location = answer.header("location").map(|to| format!(", go to {to}")).unwrap_or_default();
            return self.tell("answer", &format!("{}{location}", answer.status));
        };
        self.tell("answer", &format!("{} from {pod}", answer.status));
        let mut fact = format!(
            "{} {} for host {}, from {}",
            text("proto").unwrap_or_default(),
            text("path").unwrap_or_default(),
            text("host").unwrap_or_default(),
            text("client").unwrap_or_default(),
        );
        for header in ["x-forwarded-for", "x-shop", "x-mesh"] {
            if let Some(value) = seen["headers"][header][0].as_str() {
                fact.push_str(&format!(", {header}: {value}"));
            }
        }
        self.tell("backend", &format!("saw {fact}"));
    }

    /// Something that must hold.
    pub(crate) fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong += 1;
            println!("   WRONG    {what}");
        }
    }

    /// What the kernel counted between two moments.
    pub(crate) fn tell_counters(&self, before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) {
        let changed: Vec<String> = after
            .iter()
            .map(|(name, value)| (name, value - before.get(name).copied().unwrap_or_default().min(*value)))
            .filter(|(name, change)| *change > 0 && is_told(name))
            .map(|(name, change)| format!("{name} +{change}"))
            .collect();
        let fact = if changed.is_empty() { "redirected nothing".to_owned() } else { changed.join(", ") };
        self.tell("kernel", &fact);
    }

    /// Ends the story; whether all was well.
    pub(crate) fn end(&self) -> bool {
        match self.wrong {
            0 => println!("\n{} scenes, all as they should be.", self.scenes),
            wrong => println!("\n{} scenes, {wrong} things wrong.", self.scenes),
        }
        self.wrong == 0
    }
}

/// Counters that a reader wants to see: what was done, not every packet that went by.
fn is_told(name: &str) -> bool {
    !name.starts_with("passed_") && name != "socket_lb_left_to_proxy"
}
