//! Processes that meet over TCP: process 0 listens, the others come and say who they are.
//!
//! All frames go through process 0. Whoever is silent for some seconds is lost: a connection of a machine without power
//! does not close. Connections of strangers are dropped without an answer.

mod greeting;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::post::{FRAME_BYTES_MAX, Linked, Post, Wire};
use super::{World, WorldError};
use crate::launch::Place;
use greeting::{Answer, Greeting};

/// Between signs of life.
const BEAT: Duration = Duration::from_secs(2);
/// Who gives no sign of life for so long is lost.
const SILENCE: Duration = Duration::from_secs(15);
/// Between attempts to reach process 0, and looks at who came.
const PAUSE: Duration = Duration::from_millis(20);

/// What processes know of each other before they meet.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// This process.
    pub place: Place,
    /// The host of process 0.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who does not have the same is a stranger.
    pub token: String,
    /// What all must run, in words: version and programs.
    pub programs: String,
    /// Who has not come by then is lost.
    pub patience: Duration,
}

impl Invitation {
    /// Meets all processes.
    ///
    /// # Errors
    /// Names who cannot be reached, did not come, or runs something else; on all processes that came.
    pub fn join(&self) -> Result<impl World + 'static, WorldError> {
        let links = if self.place.process == 0 { self.wait_for_all()? } else { vec![(0, self.reach()?)] };
        let post = Post::new(self.place.process, self.place.processes);
        let failed = |error: io::Error| self.lost(0, &format!("its connection cannot be used: {error}"));
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        for (process, stream) in links {
            stream.set_nodelay(true).map_err(failed)?;
            stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
            stream.set_write_timeout(Some(SILENCE)).map_err(failed)?;
            readers.push((process, stream.try_clone().map_err(failed)?));
            writers.push((process, Mutex::new(stream)));
        }
        let links = Arc::new(Links { process: self.place.process, writers, closed: AtomicBool::new(false) });
        post.connect(Box::new(Arc::clone(&links)));
        for (process, stream) in readers {
            let (post, links) = (Arc::clone(&post), Arc::clone(&links));
            let name = format!("from process {process}");
            thread::Builder::new().name(name).spawn(move || read(process, stream, &post, &links)).map_err(failed)?;
        }
        let beats = thread::Builder::new().name("signs of life".to_owned());
        beats.spawn(move || links.beat()).map_err(failed)?;
        Ok(Linked(post))
    }

    fn lost(&self, process: u32, reason: &str) -> WorldError {
        WorldError { process, reason: reason.to_owned() }
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, WorldError> {
        let found = (self.host.as_str(), self.port).to_socket_addrs().map(Vec::from_iter);
        match found {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            Ok(_) => Err(self.lost(0, &format!("MASTER_ADDR {} has no address", self.host))),
            Err(error) => Err(self.lost(0, &format!("MASTER_ADDR {} is not known: {error}", self.host))),
        }
    }

    /// Process 0: waits until all others have come; who came is told if somebody does not.
    fn wait_for_all(&self) -> Result<Vec<(u32, TcpStream)>, WorldError> {
        let taken = |error: io::Error| {
            self.lost(0, &format!("it cannot listen at {}: {error}; choose another MASTER_PORT", self.address()))
        };
        let listener = match TcpListener::bind(&self.addresses()?[..]) {
            // Where the address is that of a machine in between.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port))
            }
            listener => listener,
        };
        let listener = listener.map_err(taken)?;
        listener.set_nonblocking(true).map_err(taken)?;
        let end = Instant::now() + self.patience;
        let own = Greeting::of(self);
        let (sender, came) = mpsc::channel();
        let mut guests: Vec<(u32, TcpStream)> = Vec::new();
        let result = loop {
            while let Ok((stream, _)) = listener.accept() {
                let sender = sender.clone();
                // By its own thread: a stranger may say nothing.
                thread::spawn(move || {
                    if let Ok(greeting) = Greeting::read(&stream) {
                        drop(sender.send((greeting, stream)));
                    }
                });
            }
            let wrong = came.try_iter().find_map(|(greeting, stream)| {
                if greeting.token != own.token {
                    return None;
                }
                let process = greeting.process;
                let wrong = own.check(&greeting).or_else(|| {
                    let twice = guests.iter().any(|(other, _)| *other == process);
                    twice.then(|| "two processes say that they are this one".to_owned())
                });
                guests.push((process, stream));
                wrong.map(|reason| self.lost(process, &reason))
            });
            if let Some(error) = wrong {
                break Err(error);
            }
            if guests.len() + 1 == self.place.processes as usize {
                break Ok(());
            }
            if Instant::now() > end {
                let missing = (1..self.place.processes).find(|process| guests.iter().all(|(it, _)| it != process));
                let reason = format!("it did not come to {} within {} s", self.address(), self.patience.as_secs());
                break Err(self.lost(missing.expect("one is missing"), &reason));
            }
            thread::sleep(PAUSE);
        };
        let answer = Answer(result.clone().err());
        for (process, stream) in &guests {
            let told = answer.write(stream);
            if result.is_ok() {
                told.map_err(|error| self.lost(*process, &format!("it went away: {error}")))?;
            }
        }
        guests.sort_by_key(|(process, _)| *process);
        result.map(|()| guests)
    }

    /// Another process: comes to process 0, and waits until all have come.
    fn reach(&self) -> Result<TcpStream, WorldError> {
        let end = Instant::now() + self.patience;
        let unreachable = |error: io::Error| {
            let waited = self.patience.as_secs();
            self.lost(0, &format!("it cannot be reached at {} within {waited} s: {error}", self.address()))
        };
        loop {
            let error = match self.call(end)? {
                Ok(stream) => {
                    Greeting::of(self).write(&stream).map_err(unreachable)?;
                    // Process 0 waits as long for the others, and then says so.
                    stream.set_read_timeout(Some(self.patience + SILENCE)).map_err(unreachable)?;
                    let gone = |error| self.lost(0, &format!("it does not answer at {}: {error}", self.address()));
                    return match Answer::read(&stream).map_err(gone)? {
                        Answer(None) => Ok(stream),
                        Answer(Some(error)) => Err(error),
                    };
                }
                Err(error) => error,
            };
            if Instant::now() > end {
                return Err(unreachable(error));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Tries all addresses of process 0 once.
    fn call(&self, end: Instant) -> Result<io::Result<TcpStream>, WorldError> {
        let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in self.addresses()? {
            let left = end.saturating_duration_since(Instant::now()).max(PAUSE);
            result = TcpStream::connect_timeout(&address, left.min(SILENCE)).and_then(|stream| {
                // On one machine, where nobody listens yet, a connection may find its own other end.
                let is_own = stream.local_addr()? == stream.peer_addr()?;
                if is_own { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(stream) }
            });
            if result.is_ok() {
                break;
            }
        }
        Ok(result)
    }
}

/// The connections of a process: of process 0 to all others, of these to process 0.
#[derive(Debug)]
struct Links {
    process: u32,
    writers: Vec<(u32, Mutex<TcpStream>)>,
    closed: AtomicBool,
}

/// Before a frame: its length, who sends it, and to whom.
const HEAD_BYTES: usize = 12;

impl Links {
    /// On the connection towards a process.
    fn write(&self, from: u32, to: u32, frame: &[u8]) -> io::Result<()> {
        let next = if self.process == 0 { to } else { 0 };
        let link = self.writers.iter().find(|(process, _)| *process == next);
        let (_, stream) = link.ok_or(io::ErrorKind::NotConnected)?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + frame.len());
        [frame.len() as u32, from, to].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend(frame);
        stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
    }

    /// Gives signs of life until the end: frames of no bytes.
    fn beat(&self) {
        let mut last = Instant::now();
        while !self.closed.load(Ordering::Relaxed) {
            thread::sleep(BEAT / 10);
            if last.elapsed() >= BEAT {
                last = Instant::now();
                // Who cannot be reached is missed by whoever reads.
                self.writers.iter().for_each(|(to, _)| drop(self.write(self.process, *to, &[])));
            }
        }
    }
}

impl Wire for Arc<Links> {
    fn send(&self, to: u32, frame: Vec<u8>) -> io::Result<()> {
        self.write(self.process, to, &frame)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for (_, stream) in &self.writers {
            // The other end may be gone already.
            drop(stream.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Write));
        }
    }
}

/// Reads what a process sends, until it has left or is lost.
fn read(process: u32, mut stream: TcpStream, post: &Post, links: &Links) {
    let mut frame = Vec::new();
    loop {
        let reason = match read_frame(&mut stream, &mut frame) {
            // Process 0 passes on what others send; the others send as themselves only.
            Ok([from, to]) if from == process || process == 0 => {
                if to == links.process {
                    post.deliver(from, &frame);
                } else if links.process == 0 && links.write(from, to, &frame).is_err() && !post.has_left(to) {
                    post.lose(to, "it cannot be reached any more");
                }
                continue;
            }
            Ok(_) => "it sends in the name of another one".to_owned(),
            Err(_) if post.has_left(process) || links.closed.load(Ordering::Relaxed) => return,
            Err(error) => {
                use io::ErrorKind::{ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
                if matches!(error.kind(), UnexpectedEof | ConnectionReset) {
                    "its connection closed".to_owned()
                } else if matches!(error.kind(), WouldBlock | TimedOut) {
                    format!("no sign of life for {} s", SILENCE.as_secs())
                } else {
                    format!("its connection broke: {error}")
                }
            }
        };
        return post.lose(process, &reason);
    }
}

/// Reads one frame with its content; gives back from whom it is, and to whom.
fn read_frame(stream: &mut TcpStream, frame: &mut Vec<u8>) -> io::Result<[u32; 2]> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head)?;
    let (words, _) = head.as_chunks();
    let [length, from, to] = [0, 1, 2].map(|index| u32::from_le_bytes(words[index]));
    if length as usize > FRAME_BYTES_MAX + HEAD_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    frame.resize(length as usize, 0);
    stream.read_exact(frame)?;
    Ok([from, to])
}

#[cfg(test)]
mod tests;
