//! Histories: all short ones, and longer ones at random.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    dice::{is_long, seed},
    machine::{CUTS, Machine, SESSIONS},
    step::{Claim, How, Step, contents},
};

/// Random histories of a normal run, and of a long one.
const HISTORIES: u32 = 2_000;
const HISTORIES_LONG: u32 = 100_000;
/// The exclusive bound of the length of random histories; their average is half of it.
const STEPS_MAX: usize = 100;
/// The most uploads at once.
const UPLOADS_MAX: usize = 6;
/// Threads that run histories.
const WORKERS: u32 = 4;

const NAMES: [&str; 6] = ["a", "b", "c", "C", "_.dir", "x"];
const SKIPS: [&str; 5] = ["a", "B", "c", "_.DIR", "X"];

/// A random path of few names, so that the steps of a history collide.
fn path(depth: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..=depth)
        .prop_map(|names| names.join("/"))
}

/// The index of a random content; the large one is rare.
fn content() -> impl Strategy<Value = usize> {
    let large = contents().len() - 1;
    prop_oneof![1_000 => 0..large, 1 => Just(large)]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        6 => Just(Claim::Nothing),
        4 => Just(Claim::Right),
        1 => Just(Claim::WrongSize),
        1 => Just(Claim::WrongDigest),
    ]
}

fn how() -> impl Strategy<Value = How> {
    (prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.1))
        .prop_map(|(keep, check_mark, verify)| How { keep, check_mark, verify })
}

fn copy() -> impl Strategy<Value = Step> {
    let skip = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::sample::subsequence(&SKIPS[..], 1..=2),
    ];
    (path(3), path(3), skip, how()).prop_map(|(source, destination, skip, how)| Step::Copy {
        source,
        destination,
        skip,
        how,
    })
}

fn chunk() -> impl Strategy<Value = Step> {
    // Few contents and paths, so that sessions become complete.
    let range = (0..CUTS, 1..=CUTS).prop_map(|(from, length)| (from, (from + length).min(CUTS)));
    let content = prop_oneof![1 => Just(0_usize), 9 => 2..7_usize];
    (0..SESSIONS, path(2), content, range, prop::bool::weighted(0.1)).prop_map(
        |(session, other, content, (from, to), short)| {
            // Usually one path and content for each session, sometimes another one.
            let usual = content != 3;
            let path = if usual { format!("s{session}/x") } else { other };
            let content = if usual && content > 0 { 2 + 2 * session } else { content };
            Step::Chunk { session, path, content, from, to, short }
        },
    )
}

/// Uploads at once; none is large.
fn together() -> impl Strategy<Value = Step> {
    let files = prop::collection::vec((path(3), 0..contents().len() - 1), 2..=UPLOADS_MAX);
    files.prop_map(|files| Step::Uploads { files })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (path(4), content(), claim())
            .prop_map(|(path, content, claim)| Step::Upload { path, content, claim }),
        12 => together(),
        2 => (path(3), content()).prop_map(|(path, content)| Step::Abandon { path, content }),
        12 => chunk(),
        3 => (0..SESSIONS).prop_map(|session| Step::Commit { session }),
        1 => (0..SESSIONS).prop_map(|session| Step::DeleteSession { session }),
        24 => copy(),
        2 => prop::bool::weighted(0.3).prop_map(|is_changed| Step::CopyAgain { is_changed }),
        8 => path(3).prop_map(|path| Step::Delete { path }),
        4 => (path(3), 0..20_usize, prop::option::of(0..40_000_usize))
            .prop_map(|(path, from, length)| Step::Read { path, from, length }),
        3 => path(3).prop_map(|path| Step::Stat { path }),
        8 => Just(Step::Reclaim),
        1 => Just(Step::Restart),
    ]
}

/// Runs histories on one store; after a failure, on a new one.
struct Bench {
    runtime: Runtime,
    machine: RefCell<Option<Machine>>,
}

impl Bench {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, machine: RefCell::new(None) }
    }

    fn run(&self, history: &[Step]) -> Result<(), String> {
        let machine = self.machine.borrow_mut().take();
        let run = AssertUnwindSafe(|| {
            self.runtime.block_on(async {
                let mut machine = match machine {
                    Some(machine) => machine,
                    None => Machine::new().await,
                };
                machine.run(history).await;
                machine
            })
        });
        match catch_unwind(run) {
            Ok(machine) => {
                *self.machine.borrow_mut() = Some(machine);
                Ok(())
            }
            Err(panic) => Err(panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic".to_owned())),
        }
    }
}

/// Runs random histories from one seed.
fn worker(seed: u64, histories: u32) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases: histories, failure_persistence: None, ..Config::default() };
    let bench = Bench::new();
    let mut runner = TestRunner::new_with_rng(config, rng);
    let histories = prop::collection::vec(step(), 1..STEPS_MAX);
    let run = runner.run(&histories, |history| bench.run(&history).map_err(TestCaseError::fail));
    run.map_err(|error| match error {
        TestError::Fail(why, history) => {
            let steps: Vec<String> = history.iter().map(|step| format!("  {step:?}")).collect();
            format!("TEST_SEED={seed}: {why}\n{}", steps.join("\n"))
        }
        TestError::Abort(why) => format!("TEST_SEED={seed}: {why}"),
    })
}

/// The steps of which all sequences are tried: few paths, so that the steps collide.
fn small_steps() -> Vec<Step> {
    let upload = |path: &str, content| Step::Upload {
        path: path.to_owned(),
        content,
        claim: Claim::Nothing,
    };
    let copy = |source: &str, destination: &str, skip: &[&'static str]| Step::Copy {
        source: source.to_owned(),
        destination: destination.to_owned(),
        skip: skip.to_vec(),
        how: How::default(),
    };
    vec![
        upload("a", 1),
        upload("a/x", 2),
        upload("a/y/x", 5),
        upload("b/y", 2),
        copy("a", "b", &[]),
        copy("b", "a/y", &[]),
        copy("a", "c", &["x"]),
        copy("c", "b/y", &[]),
        Step::Delete { path: "a".to_owned() },
        Step::Delete { path: "b/y".to_owned() },
    ]
}

/// Runs one worker's share of all sequences of small steps of a length: every [`WORKERS`]th one.
fn all_histories(worker: usize, length: u32) -> Result<(), String> {
    let steps = small_steps();
    let bench = Bench::new();
    for number in 0..steps.len().pow(length) {
        let mut rest = number;
        let history: Vec<Step> = (0..length)
            .map(|_| {
                let step = steps[rest % steps.len()].clone();
                rest /= steps.len();
                step
            })
            .collect();
        if number % WORKERS as usize == worker {
            bench.run(&history).map_err(|why| format!("{why}\n{history:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn every_small_history_ends_as_in_a_plain_map() {
    let length = if is_long() { 4 } else { 3 };
    let started = Instant::now();
    let workers: Vec<_> = (0..WORKERS as usize)
        .map(|worker| std::thread::spawn(move || all_histories(worker, length)))
        .collect();
    for worker in workers {
        worker.join().unwrap().unwrap();
    }
    println!("all histories of {length} steps in {:?}", started.elapsed());
}

#[test]
fn random_histories_end_as_in_a_plain_map() {
    let histories = if is_long() { HISTORIES_LONG } else { HISTORIES };
    let seed = seed();
    let started = Instant::now();
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let seed = seed.wrapping_add(u64::from(number));
            std::thread::spawn(move || worker(seed, histories / WORKERS))
        })
        .collect();
    for worker in workers {
        if let Err(why) = worker.join().unwrap() {
            panic!("{why}");
        }
    }
    println!("{histories} histories from TEST_SEED={seed} in {:?}", started.elapsed());
}
