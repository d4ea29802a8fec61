//! What is said when a process comes: who it is, and whether it may join.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ir::file::digest;

use super::Invitation;
use crate::world::WorldError;

/// First, so that strangers are known by it, and other versions of the greeting, too.
const MAGIC: &[u8; 8] = b"hetu go1";
/// Who wants to join says so at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// No text of a greeting is longer.
const TEXT_BYTES_MAX: usize = 4096;

/// Who comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) process: u32,
    pub(super) processes: u32,
    /// The digest of the token, which itself is not sent.
    pub(super) token: u64,
    pub(super) programs: String,
}

/// What process 0 answers: nothing, or why the training cannot begin.
pub(super) struct Answer(pub(super) Option<WorldError>);

impl Greeting {
    /// That of a process that was invited.
    pub(super) fn of(invitation: &Invitation) -> Greeting {
        Greeting {
            process: invitation.place.process,
            processes: invitation.place.processes,
            token: digest(&invitation.token).0,
            programs: invitation.programs.clone(),
        }
    }

    /// What is wrong with who comes, seen from process 0.
    pub(super) fn check(&self, other: &Greeting) -> Option<String> {
        let Greeting { processes, programs, .. } = self;
        if other.processes != *processes {
            return Some(format!("it says that there are {} processes, process 0 that {processes}", other.processes));
        }
        if !(1..*processes).contains(&other.process) {
            return Some(format!("there are only {processes} processes"));
        }
        (other.programs != *programs).then(|| format!("it has {}, but process 0 has {programs}", other.programs))
    }

    pub(super) fn write(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.token.to_le_bytes());
        bytes.extend(self.process.to_le_bytes());
        bytes.extend(self.processes.to_le_bytes());
        write_text(&mut bytes, &self.programs);
        stream.write_all(&bytes)
    }

    /// From a connection of which nothing is known yet.
    pub(super) fn read(mut stream: &TcpStream) -> io::Result<Greeting> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if read_array(&mut stream)? != *MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Greeting {
            token: u64::from_le_bytes(read_array(&mut stream)?),
            process: u32::from_le_bytes(read_array(&mut stream)?),
            processes: u32::from_le_bytes(read_array(&mut stream)?),
            programs: read_text(&mut stream)?,
        })
    }
}

impl Answer {
    pub(super) fn write(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        match &self.0 {
            None => bytes.push(0),
            Some(WorldError { process, reason }) => {
                bytes.push(1);
                bytes.extend(process.to_le_bytes());
                write_text(&mut bytes, reason);
            }
        }
        stream.write_all(&bytes)
    }

    pub(super) fn read(mut stream: &TcpStream) -> io::Result<Answer> {
        match read_array(&mut stream)? {
            [0] => Ok(Answer(None)),
            [1] => {
                let process = u32::from_le_bytes(read_array(&mut stream)?);
                Ok(Answer(Some(WorldError { process, reason: read_text(&mut stream)? })))
            }
            [_] => Err(io::Error::new(io::ErrorKind::InvalidData, "another program listens there")),
        }
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text);
}

fn read_array<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_text(stream: &mut impl Read) -> io::Result<String> {
    let length = usize::from(u16::from_le_bytes(read_array(stream)?));
    if length > TEXT_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
