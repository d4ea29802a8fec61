//! What the driver's own watch says of a device under load: its clock and its power. Nothing depends on it: where the
//! library is missing, nobody says anything.
#![allow(unsafe_code, reason = "the management library is a C library")]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::ptr::null_mut;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Which comes with the driver.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The clock of multiprocessors, as the library counts its clocks.
const PROCESSOR_CLOCK: c_int = 1;
/// Room for a version.
const TEXT: usize = 96;

/// A device as the management library sees it.
pub struct Vitals {
    functions: Functions,
    device: *mut c_void,
}

// SAFETY: the library may be called from any thread, and its handles are valid on all of them.
unsafe impl Send for Vitals {}
// SAFETY: likewise, from several at once.
unsafe impl Sync for Vitals {}

/// The functions that we use, with the library's signatures.
struct Functions {
    clock: unsafe extern "C" fn(*mut c_void, c_int, *mut c_uint) -> c_int,
    power: unsafe extern "C" fn(*mut c_void, *mut c_uint) -> c_int,
    driver: unsafe extern "C" fn(*mut c_char, c_uint) -> c_int,
    /// Keeps the functions.
    _library: Library,
}

impl Vitals {
    /// The device at a place of the PCI bus; none where the library is missing or does not know it.
    pub(crate) fn at(bus: &str) -> Option<Vitals> {
        // SAFETY: the library's initialisers have no preconditions.
        let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_LOCAL) }.ok()?;
        let bus = CString::new(bus).ok()?;
        let mut device = null_mut();
        // SAFETY: the signatures are those of the library's header; places and the string are valid.
        unsafe {
            let start: unsafe extern "C" fn() -> c_int = *library.get(b"nvmlInit_v2").ok()?;
            let find: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int =
                *library.get(b"nvmlDeviceGetHandleByPciBusId_v2").ok()?;
            if start() != 0 || find(bus.as_ptr(), &mut device) != 0 {
                return None;
            }
        }
        // SAFETY: likewise.
        let functions = unsafe {
            Functions {
                clock: *library.get(b"nvmlDeviceGetClockInfo").ok()?,
                power: *library.get(b"nvmlDeviceGetPowerUsage").ok()?,
                driver: *library.get(b"nvmlSystemGetDriverVersion").ok()?,
                _library: library,
            }
        };
        Some(Vitals { functions, device })
    }

    /// The clock of its multiprocessors now, in MHz.
    pub fn clock_mhz(&self) -> Option<f64> {
        let mut clock = 0;
        // SAFETY: the device is known to the library, and the place is valid.
        let result = unsafe { (self.functions.clock)(self.device, PROCESSOR_CLOCK, &mut clock) };
        (result == 0).then(|| f64::from(clock))
    }

    /// The power that it takes, in watts; the mean of about the last second.
    pub fn power_watts(&self) -> Option<f64> {
        let mut milliwatts = 0;
        // SAFETY: likewise.
        let result = unsafe { (self.functions.power)(self.device, &mut milliwatts) };
        (result == 0).then(|| f64::from(milliwatts) / 1e3)
    }

    /// The version of the driver, as its maker counts.
    pub fn driver(&self) -> Option<String> {
        let mut text: [c_char; TEXT] = [0; TEXT];
        // SAFETY: the library writes a string of at most so many bytes.
        let result = unsafe { (self.functions.driver)(text.as_mut_ptr(), TEXT as c_uint) };
        let bytes = text.iter().take_while(|&&letter| letter != 0).map(|&letter| letter as u8);
        (result == 0).then(|| String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
    }
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vitals({:p})", self.device)
    }
}
