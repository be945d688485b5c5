//! With io_uring forbidden, as in most containers, everything works on the other driver and one
//! sentence says why. The filter holds for the thread that installs it, for the rest of its life.
#![expect(unsafe_code, reason = "a seccomp filter is installed by a raw system call")]

use std::thread;

use raet::buffer::{Ecn, Pool, Transmit};
use raet::io::Driver;
use raet::io::kernel::{IoChoice, IoConfig, OpenError, Opened, open};
use raet::io::probe::{FallbackReason, Probe};
use raet::limits::RECEIVE_BUFFER_LEN;
use raet::time::{Duration, Instant};

/// Makes the three system calls of io_uring fail with `code`, for this thread.
fn forbid_io_uring(code: i32) {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let call = |number: i64| u32::try_from(number).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(code).unwrap();
    let mut filter = [
        // The number is the first field of what a filter is shown.
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 3, 0, call(libc::SYS_io_uring_setup)),
        step(JUMP_IF_EQUAL, 2, 0, call(libc::SYS_io_uring_enter)),
        step(JUMP_IF_EQUAL, 1, 0, call(libc::SYS_io_uring_register)),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, refuse),
    ];
    let len = u16::try_from(filter.len()).unwrap();
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its steps outlive the call, which copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn on_a_thread_without_io_uring(code: i32, test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            forbid_io_uring(code);
            test();
        });
        thread.join().expect("the thread's assertions hold");
    });
}

fn config(choice: IoChoice) -> IoConfig {
    IoConfig { choice, ..IoConfig::new("127.0.0.1:0".parse().unwrap()) }
}

#[test]
fn auto_falls_back_to_mmsg_and_says_why_and_carries_datagrams() {
    on_a_thread_without_io_uring(libc::EPERM, || {
        let probe = Probe::run();
        let pool = Pool::new(64, RECEIVE_BUFFER_LEN).unwrap();
        let opened = open(&config(IoChoice::Auto), &probe, pool).unwrap();
        let Opened::Mmsg(mut driver, Some(reason)) = opened else {
            panic!("io_uring was forbidden, yet {opened:?}")
        };
        let sentence = reason.to_string();
        assert!(sentence.contains("io_uring") && !sentence.contains('\n'), "{sentence}");
        // A host on which it is also switched off says that instead: it is the better advice.
        let expected = [FallbackReason::Forbidden, FallbackReason::Disabled(2)];
        assert!(expected.contains(&reason) || reason == FallbackReason::Disabled(1), "{reason:?}");

        let sender = Pool::new(1, 64).unwrap();
        let to = driver.local_address();
        driver.transmit(Transmit::single(to, Ecn::Ect0, sender.take().unwrap())).unwrap();
        let deadline = driver.now() + Duration::from_secs(2);
        let received = loop {
            if let Some(received) = driver.receive() {
                break received;
            }
            assert!(driver.wait(Some(deadline)).unwrap() < deadline, "nothing arrived");
        };
        assert_eq!((received.from, received.lease.len()), (to, 64));
    });
}

#[test]
fn probe_made_before_the_filter_does_not_stop_the_fallback() {
    let probe = Probe::run();
    on_a_thread_without_io_uring(libc::EPERM, || {
        let pool = Pool::new(64, RECEIVE_BUFFER_LEN).unwrap();
        let opened = open(&config(IoChoice::Auto), &probe, pool).unwrap();
        assert!(matches!(opened, Opened::Mmsg(_, Some(_))), "{opened:?}");
    });
}

#[test]
fn uring_by_name_is_refused_in_one_sentence() {
    on_a_thread_without_io_uring(libc::EPERM, || {
        let pool = Pool::new(4, 2048).unwrap();
        let error = open(&config(IoChoice::Uring), &Probe::run(), pool).unwrap_err();
        assert!(matches!(error, OpenError::NoUring(_)), "{error:?}");
        assert!(error.to_string().ends_with("use the mmsg driver"), "{error}");
    });
}

#[test]
fn kernel_without_io_uring_is_told_from_one_that_forbids_it() {
    on_a_thread_without_io_uring(libc::ENOSYS, || {
        assert_eq!(Probe::run().io_uring, Err(FallbackReason::Missing));
    });
}

#[test]
fn mmsg_by_name_needs_no_excuse() {
    on_a_thread_without_io_uring(libc::EPERM, || {
        let pool = Pool::new(4, 2048).unwrap();
        let opened = open(&config(IoChoice::Mmsg), &Probe::run(), pool).unwrap();
        let Opened::Mmsg(mut driver, None) = opened else { panic!("{opened:?}") };
        assert!(driver.wait(Some(Instant::ZERO)).unwrap() > Instant::ZERO);
    });
}
