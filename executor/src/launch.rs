//! Which process of a training this is, of how many, and how they meet: what launchers say in the environment.
//!
//! Launchers nest (`torchrun` below `srun`, `mpirun` in an allocation of Slurm), so the innermost that says how many
//! there are is believed: torchrun's variables, then those of Open MPI, of MPICH and its kin, and of Slurm.

use thiserror::Error;

/// The place of a process among those of its training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which process this is, from zero.
    pub process: u32,
    /// How many there are.
    pub processes: u32,
    /// Which of the processes on its host, from zero.
    pub local: u32,
}

/// Where the processes meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meet {
    /// There is one process only.
    Nowhere,
    /// At process 0, which listens there.
    Address {
        /// Its host, by name or number.
        host: String,
        /// Its port.
        port: u16,
        /// Only who has the same may join: the launcher's name of the job, and the user's secret.
        token: String,
    },
    /// By messages of the MPI that started them.
    Messages,
}

/// What a launcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// This process.
    pub place: Place,
    /// Where it meets the others.
    pub meet: Meet,
}

/// Variables that contradict each other, or are incomplete.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what}\n  help: {help}")]
pub struct LaunchError {
    /// Which variables, with their values.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// The names under which a launcher says its three numbers, and what to do if some are missing.
struct Family {
    process: &'static str,
    processes: &'static str,
    local: &'static str,
    help: &'static str,
}

const FAMILIES: [Family; 4] = [
    Family {
        process: "RANK",
        processes: "WORLD_SIZE",
        local: "LOCAL_RANK",
        help: "set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as `torchrun --no-python` does, or none",
    },
    Family {
        process: "OMPI_COMM_WORLD_RANK",
        processes: "OMPI_COMM_WORLD_SIZE",
        local: "OMPI_COMM_WORLD_LOCAL_RANK",
        help: "start all processes with one `mpirun`",
    },
    Family {
        process: "PMI_RANK",
        processes: "PMI_SIZE",
        local: "MPI_LOCALRANKID",
        help: "start all processes with one `mpirun`; MPI_LOCALRANKID says which of its host a process is",
    },
    // Not SLURM_NTASKS, which a batch script has, too, where nothing was started yet.
    Family {
        process: "SLURM_PROCID",
        processes: "SLURM_STEP_NUM_TASKS",
        local: "SLURM_LOCALID",
        help: "start all processes with one `srun`",
    },
];

const OPEN_MPI: usize = 1;

/// Names of the job, by which its processes know each other.
const JOB_NAMES: [&str; 5] = ["HETU_TOKEN", "TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "SLURM_JOB_ID", "SLURM_STEP_ID"];

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Launch {
    /// What the environment of this process says.
    pub fn from_environment() -> Result<Launch, LaunchError> {
        Launch::from_variables(&|name| std::env::var(name).ok())
    }

    /// What some variables say.
    pub fn from_variables(variables: Variables<'_>) -> Result<Launch, LaunchError> {
        let alone = Launch { place: Place { process: 0, processes: 1, local: 0 }, meet: Meet::Nowhere };
        let mut found: Vec<(usize, Place)> = Vec::new();
        for (index, family) in FAMILIES.iter().enumerate() {
            found.extend(family.place(variables)?.map(|place| (index, place)));
        }
        let Some(&(inner, place)) = found.first() else {
            return match variables("PMIX_RANK").filter(|rank| rank != "0") {
                None => Ok(alone),
                Some(rank) => Err(LaunchError {
                    what: format!("PMIX_RANK is {rank}, but nothing says of how many processes"),
                    help: FAMILIES[0].help.to_owned(),
                }),
            };
        };
        // With as many processes outside as inside, both number the same ones.
        for &(outer, other) in &found[1..] {
            if other.processes == place.processes && other.process != place.process {
                let [a, b] = [inner, outer].map(|index| FAMILIES[index].process);
                return Err(LaunchError {
                    what: format!("{a} is {}, but {b} is {}", place.process, other.process),
                    help: format!("remove {a} or {b} from the environment"),
                });
            }
        }
        if place.processes == 1 {
            return Ok(alone);
        }
        Ok(Launch { place, meet: meet(variables, inner)? })
    }
}

impl Family {
    /// What it says; nothing if it does not say how many there are, nor, of a launcher's own, which.
    fn place(&self, variables: Variables<'_>) -> Result<Option<Place>, LaunchError> {
        let Family { process, processes, local, help } = *self;
        let wrong = |what: String| LaunchError { what, help: help.to_owned() };
        let is_absent = variables(processes).is_none() && (process != "RANK" || variables(process).is_none());
        if is_absent {
            return Ok(None);
        }
        let mut numbers = [0; 3];
        for (number, name) in numbers.iter_mut().zip([process, processes, local]) {
            let text = match variables(name) {
                Some(text) => text,
                // Of one host all processes are the host's own.
                None if name == "MPI_LOCALRANKID" => numbers_of_host(variables).unwrap_or_default(),
                None => String::new(),
            };
            if text.is_empty() {
                let there = [process, processes, local].into_iter().find(|&name| variables(name).is_some());
                let there = there.unwrap_or(processes);
                return Err(wrong(format!("{there} is set, but {name} is not")));
            }
            *number = text.trim().parse().map_err(|_| wrong(format!("{name} is `{text}`, which is no number")))?;
        }
        let [own, count, on_host] = numbers;
        for (name, number) in [(process, own), (local, on_host)] {
            if number >= count {
                return Err(wrong(format!("{name} is {number}, but {processes} is {count}: they count from 0")));
            }
        }
        Ok(Some(Place { process: own, processes: count, local: on_host }))
    }
}

/// The local number, by a name that some of MPICH's kin use instead.
fn numbers_of_host(variables: Variables<'_>) -> Option<String> {
    variables("PMI_LOCAL_RANK").or_else(|| variables("MV2_COMM_WORLD_LOCAL_RANK"))
}

fn meet(variables: Variables<'_>, family: usize) -> Result<Meet, LaunchError> {
    let wrong = |what: String| LaunchError {
        what,
        help:
            "set MASTER_ADDR to the host of process 0 and MASTER_PORT to a free port there, the same for all processes"
                .to_owned(),
    };
    let (host, port) = match (variables("MASTER_ADDR"), variables("MASTER_PORT")) {
        (Some(host), Some(port)) => (host, port),
        (None, None) if family == OPEN_MPI && cfg!(feature = "mpi") => return Ok(Meet::Messages),
        (None, None) => {
            let Family { processes, .. } = FAMILIES[family];
            let count = variables(processes).unwrap_or_default();
            return Err(wrong(format!("{processes} is {count}, but nothing says where the processes meet")));
        }
        (Some(host), None) => return Err(wrong(format!("MASTER_ADDR is {host}, but MASTER_PORT is not set"))),
        (None, Some(port)) => return Err(wrong(format!("MASTER_PORT is {port}, but MASTER_ADDR is not set"))),
    };
    let number: u16 = port
        .trim()
        .parse()
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| wrong(format!("MASTER_PORT is `{port}`, which is no port")))?;
    // There torchrun itself listens on its port.
    let is_taken = variables("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let port = if is_taken { number.checked_add(1).unwrap_or(number - 1) } else { number };
    let names = JOB_NAMES.into_iter().filter_map(|name| Some(format!("{name}={}", variables(name)?)));
    Ok(Meet::Address { host, port, token: names.collect::<Vec<_>>().join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(words: &str) -> Result<Launch, LaunchError> {
        Launch::from_variables(&|name| {
            let of = |word: &str| Some(word.split_once('=').filter(|(key, _)| *key == name)?.1.to_owned());
            words.split_whitespace().find_map(of)
        })
    }

    fn place(words: &str) -> [u32; 3] {
        let Place { process, processes, local } =
            launch(words).unwrap_or_else(|error| panic!("{words}: {error}")).place;
        [process, processes, local]
    }

    const MASTER: &str = "MASTER_ADDR=a MASTER_PORT=29500";

    #[test]
    fn every_launcher_says_which_process_this_is() {
        let table = [
            ("", [0, 1, 0]),
            ("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0", [0, 1, 0]),
            ("RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 MASTER_ADDR=a MASTER_PORT=29500", [5, 8, 1]),
            (
                "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=2 MASTER_ADDR=a \
                 MASTER_PORT=1",
                [3, 4, 2],
            ),
            ("PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=0 MASTER_ADDR=a MASTER_PORT=1", [1, 2, 0]),
            ("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=1 MASTER_ADDR=a MASTER_PORT=1", [1, 2, 1]),
            // A batch script, in which nothing was started yet.
            ("SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0", [0, 1, 0]),
            // torchrun, once a node, below srun.
            (
                "SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0 RANK=9 WORLD_SIZE=16 LOCAL_RANK=1 \
                 MASTER_ADDR=a MASTER_PORT=1",
                [9, 16, 1],
            ),
        ];
        for (words, expected) in table {
            assert_eq!(place(words), expected, "{words}");
        }
    }

    #[test]
    fn incomplete_and_contradictory_variables_are_named() {
        let table = [
            ("RANK=1", "RANK is set, but WORLD_SIZE is not"),
            ("WORLD_SIZE=2", "WORLD_SIZE is set, but RANK is not"),
            ("RANK=1 WORLD_SIZE=2", "RANK is set, but LOCAL_RANK is not"),
            ("RANK=2 WORLD_SIZE=2 LOCAL_RANK=0", "RANK is 2, but WORLD_SIZE is 2: they count from 0"),
            ("RANK=x WORLD_SIZE=2 LOCAL_RANK=0", "RANK is `x`, which is no number"),
            ("RANK=0 WORLD_SIZE=0 LOCAL_RANK=0", "RANK is 0, but WORLD_SIZE is 0: they count from 0"),
            ("PMIX_RANK=1", "PMIX_RANK is 1, but nothing says of how many processes"),
            ("SLURM_STEP_NUM_TASKS=2", "SLURM_STEP_NUM_TASKS is set, but SLURM_PROCID is not"),
            ("RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_PORT=1", "MASTER_PORT is 1, but MASTER_ADDR is not set"),
            ("RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=a", "MASTER_ADDR is a, but MASTER_PORT is not set"),
            (
                "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=a MASTER_PORT=99999",
                "MASTER_PORT is `99999`, which is no port",
            ),
            (
                "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0",
                "SLURM_STEP_NUM_TASKS is 2, but nothing says where the processes meet",
            ),
            (
                "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 \
                 OMPI_COMM_WORLD_LOCAL_RANK=1",
                "RANK is 0, but OMPI_COMM_WORLD_RANK is 1",
            ),
        ];
        for (words, expected) in table {
            let error = launch(words).expect_err(words);
            assert_eq!(error.what, expected, "{words}");
            assert!(!error.help.is_empty());
        }
    }

    #[test]
    fn processes_meet_beside_the_port_that_their_launcher_listens_on() {
        let words = format!("RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 TORCHELASTIC_RUN_ID=j {MASTER}");
        let meet = |words: &str| launch(words).expect(words).meet;
        let at = |port| Meet::Address { host: "a".to_owned(), port, token: "TORCHELASTIC_RUN_ID=j".to_owned() };
        assert_eq!(meet(&words), at(29500));
        assert_eq!(meet(&format!("{words} TORCHELASTIC_USE_AGENT_STORE=True")), at(29501));
    }

    #[test]
    fn open_mpi_alone_needs_its_messages_or_an_address() {
        let words = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1";
        if cfg!(feature = "mpi") {
            assert_eq!(launch(words).expect(words).meet, Meet::Messages);
        } else {
            assert!(launch(words).expect_err(words).help.contains("MASTER_ADDR"));
        }
        assert!(matches!(launch(&format!("{words} {MASTER}")).expect(words).meet, Meet::Address { .. }));
    }
}
