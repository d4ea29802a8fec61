//! Which GPUs are those of this process, and the names of communicators, which all processes must know.

use std::ffi::c_char;
use std::ops::Range;
use std::sync::Arc;

use kernels::cuda::Error;

use super::nccl::{self, Id};
use crate::fault::LoadError;
use crate::meetings::Meetings;
use crate::world::{Processes, World as _, WorldError};

const ID_BYTES: usize = 128;

/// Names of all communicators: of meetings of several ranks, then of routes.
pub(crate) type Ids = Arc<Vec<Option<Id>>>;

/// The first GPU of the `local`-th process of a machine, for `each` ranks in each, of so many that can be seen; the
/// others follow it. `visible` is what the user lets be seen.
pub(crate) fn first_device([local, each]: [u32; 2], count: usize, visible: Option<&str>) -> Result<usize, Error> {
    let first = (local * each) as usize;
    let end = first + each as usize;
    if end <= count {
        return Ok(first);
    }
    // Where the launcher lets every process see its own GPUs only.
    if visible.is_some() && count == each as usize {
        return Ok(0);
    }
    Err(Error::NoDevice { ordinal: first.max(count), count })
}

/// Gives every communicator its name: the process of its first member makes it, and tells all.
pub(crate) fn ids(meetings: &Meetings, own: &Range<u32>, processes: &mut Processes) -> Result<Ids, LoadError> {
    let groups = meetings.all.iter().map(|meeting| (meeting.members.len() > 1).then(|| meeting.members[0]));
    let makers: Vec<Option<u32>> = groups.chain(meetings.routes.iter().map(|route| Some(route.from))).collect();
    let mut made = Vec::new();
    for &rank in makers.iter().flatten().filter(|rank| own.contains(rank)) {
        let id = nccl::new_id().map_err(|error| LoadError::Device { rank, error })?;
        made.extend(id.internal.map(|letter| letter.to_ne_bytes()[0]));
    }
    let said = processes.all_say(&made)?;
    let mut rest: Vec<&[u8]> = said.iter().map(Vec::as_slice).collect();
    let mut next = |maker: Option<u32>| {
        let Some(rank) = maker else { return Ok(None) };
        let process = rank / (own.end - own.start);
        let (id, after) = rest[process as usize]
            .split_first_chunk::<ID_BYTES>()
            .ok_or_else(|| WorldError { process, reason: "it says too few names of communicators".to_owned() })?;
        rest[process as usize] = after;
        Ok(Some(Id { internal: id.map(|letter| c_char::from_ne_bytes([letter])) }))
    };
    Ok(Arc::new(makers.into_iter().map(&mut next).collect::<Result<_, WorldError>>()?))
}

/// For one rank, which meets nobody.
pub(crate) fn no_ids(meetings: &Meetings) -> Ids {
    Arc::new(vec![None; meetings.all.len() + meetings.routes.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_machine_share_its_gpus_out() {
        let first = |local, each, count, visible| first_device([local, each], count, visible).ok();
        assert_eq!(first(0, 8, 8, None), Some(0));
        assert_eq!(first(3, 1, 8, None), Some(3));
        assert_eq!(first(1, 2, 4, Some("4,5,6,7")), Some(2));
        assert_eq!(first(3, 1, 1, Some("3")), Some(0), "each sees its own only");
        assert_eq!(first(1, 1, 1, None), None, "two would share one");
        assert_eq!(first(0, 2, 1, None), None);
    }
}
