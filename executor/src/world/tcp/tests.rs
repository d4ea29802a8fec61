//! Processes as threads, over this machine's own network.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::{Invitation, WorldError};
use crate::launch::Place;
use crate::world::World;

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("this machine has ports");
    listener.local_addr().expect("it listens").port()
}

fn invitation(port: u16, process: u32, processes: u32) -> Invitation {
    Invitation {
        place: Place { process, processes, local: process },
        host: "127.0.0.1".to_owned(),
        port,
        token: "a token".to_owned(),
        programs: "programs 1".to_owned(),
        patience: Duration::from_secs(60),
    }
}

/// What each of some processes says at the end.
fn all<T: Send + 'static>(
    invitations: Vec<Invitation>,
    life: impl Fn(Invitation) -> T + Send + Clone + 'static,
) -> Vec<T> {
    let start = |invitation| {
        let life = life.clone();
        thread::spawn(move || life(invitation))
    };
    let handles: Vec<_> = invitations.into_iter().map(start).collect();
    handles.into_iter().map(|handle| handle.join().expect("no process panics")).collect()
}

fn four(port: u16) -> Vec<Invitation> {
    (0..4).map(|process| invitation(port, process, 4)).collect()
}

#[test]
fn all_hear_what_each_says_however_long() {
    let heard = all(four(port()), |invitation| {
        let process = invitation.place.process;
        let mut world = invitation.join().expect("all come");
        let long = vec![process as u8; 3 << 20];
        let first = world.all_say(&long).expect("all say it");
        assert!((0..4).all(|from| first[from as usize] == vec![from; 3 << 20]));
        world.all_say(format!("process {process}").as_bytes()).expect("all say it")
    });
    for said in heard {
        assert_eq!(said, [b"process 0", b"process 1", b"process 2", b"process 3"]);
    }
}

#[test]
fn a_stranger_cannot_join_and_disturbs_nobody() {
    let port = port();
    let stranger = thread::spawn(move || {
        let mut stream = loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                break stream;
            }
            thread::sleep(Duration::from_millis(5));
        };
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is connected");
        let mut answer = Vec::new();
        // Closed, with or without what was not read.
        let ended = stream.read_to_end(&mut answer).err().map(|error| error.kind());
        assert!(answer.is_empty() && matches!(ended, None | Some(ErrorKind::ConnectionReset)), "{answer:?} {ended:?}");
    });
    let join = |invitation: Invitation| invitation.join().map(|mut world| world.all_say(b"x").map(|said| said.len()));
    let first = thread::spawn(move || join(invitation(port, 0, 2)));
    stranger.join().expect("it was turned away");
    // As good as the other, but for another training.
    let other = Invitation { token: "another".to_owned(), patience: Duration::from_secs(1), ..invitation(port, 1, 2) };
    let other = thread::spawn(move || join(other));
    let second = join(invitation(port, 1, 2));
    assert_eq!([first.join().expect("no panic"), second], [Ok(Ok(2)), Ok(Ok(2))]);
    other.join().expect("no panic").expect_err("it has another token");
}

/// That all processes but one end with the same error.
fn assert_all_lose(found: &[Result<(), WorldError>], process: u32, reason: &str) {
    for result in found {
        let error = result.as_ref().expect_err("nobody can go on");
        assert!(error.process == process && error.reason.contains(reason), "{error}");
    }
}

#[test]
fn other_programs_are_refused_with_both_names() {
    let mut invitations = four(port());
    invitations[2].programs = "programs 2".to_owned();
    let found = all(invitations, |invitation| invitation.join().map(drop));
    // Who had not come before then finds nobody.
    let came: Vec<_> = [0, 2].map(|process: usize| found[process].clone()).into();
    assert_all_lose(&came[..1], 2, "it has programs 2, but process 0 has programs 1");
    assert!(came[1].is_err());
}

#[test]
fn who_does_not_come_is_named_everywhere() {
    let mut invitations = four(port());
    invitations.remove(2);
    invitations.iter_mut().for_each(|invitation| invitation.patience = Duration::from_secs(1));
    let found = all(invitations, |invitation| invitation.join().map(drop));
    assert_all_lose(&found, 2, "it did not come to 127.0.0.1:");
}

#[test]
fn who_fails_is_named_everywhere_with_its_reason() {
    let found = all(four(port()), |invitation| {
        let process = invitation.place.process;
        let mut world = invitation.join()?;
        world.all_say(b"")?;
        if process == 3 {
            world.fail("its disk is full");
        }
        world.all_say(b"").map(drop)
    });
    assert_all_lose(&found, 3, "its disk is full");
}

#[test]
fn who_ends_early_is_named_everywhere() {
    let found = all(four(port()), |invitation| {
        let process = invitation.place.process;
        let mut world = invitation.join()?;
        world.all_say(b"")?;
        if process == 1 {
            drop(world);
            return Err(WorldError { process: 1, reason: "ended before the others".to_owned() });
        }
        world.all_say(b"").map(drop)
    });
    assert_all_lose(&found, 1, "ended before the others");
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let nobody = Invitation { patience: Duration::from_millis(100), ..invitation(port(), 1, 2) };
    let error = nobody.join().map(drop).expect_err("nobody listens");
    assert!(error.process == 0 && error.reason.contains("cannot be reached at 127.0.0.1:"), "{error}");
    let unknown = Invitation { host: "no.such.host.invalid".to_owned(), ..invitation(1, 1, 2) };
    let error = unknown.join().map(drop).expect_err("it has no address");
    assert!(error.reason.contains("MASTER_ADDR no.such.host.invalid"), "{error}");
}
