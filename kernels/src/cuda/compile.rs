//! Compiles sources for a device, once: results are kept in a folder of the user's caches.
#![allow(unsafe_code, reason = "the compiler is a C library")]

use std::env;
use std::ffi::{CStr, CString};
use std::fs;
use std::path::PathBuf;
use std::ptr::null;

use cudarc::nvrtc::sys::{self, nvrtcProgram, nvrtcResult};
use ir::file::digest;

use super::lowered::Source;
use super::{Error, library};

/// What every source is compiled with.
const OPTIONS: [&str; 3] = ["--std=c++17", "--fmad=true", "--ptxas-options=-v"];

/// A compiler for one architecture.
#[derive(Debug)]
pub(crate) struct Compiler {
    architecture: String,
    version: (i32, i32),
    /// None if the user has no place for caches.
    folder: Option<PathBuf>,
}

impl Compiler {
    /// For devices of this compute capability.
    pub(crate) fn new(major: i32, minor: i32) -> Result<Compiler, Error> {
        library::need_compiler()?;
        let mut version = (0, 0);
        // SAFETY: both places are valid for the call.
        check(unsafe { sys::nvrtcVersion(&mut version.0, &mut version.1) }, "nvrtcVersion")?;
        // Code for exactly this architecture may use what only it has.
        let exact = if major >= 9 { "a" } else { "" };
        Ok(Compiler { architecture: format!("sm_{major}{minor}{exact}"), version, folder: cache() })
    }

    /// The code for a source, from the cache if it is there.
    pub(crate) fn binary(&self, source: &Source) -> Result<Vec<u8>, Error> {
        let whole = source.whole();
        let Compiler { architecture, version, folder } = self;
        let key = format!("{architecture} {version:?} {OPTIONS:?} {}\n{whole}", source.file);
        // Two digests of unlike texts: one of 64 bits alone would be a little short.
        let name = format!("{}{}.cubin", digest(&key), digest(&format!("{}{key}", key.len())));
        let path = folder.as_ref().map(|folder| folder.join(name));
        if let Some(found) = path.as_ref().and_then(|path| fs::read(path).ok()) {
            return Ok(found);
        }
        let (binary, _) = self.compile(source.file, &whole)?;
        if let (Some(folder), Some(path)) = (folder, path) {
            // A cache that cannot be written only costs time. Whoever reads sees a whole file or none.
            let part = folder.join(format!("{}.{:?}.part", std::process::id(), std::thread::current().id()));
            let _ = fs::create_dir_all(folder).and_then(|()| fs::write(&part, &binary));
            let _ = fs::rename(part, path);
        }
        Ok(binary)
    }

    /// Compiles, whatever the cache has; also what the compiler tells of registers and memory.
    pub(crate) fn compile(&self, file: &'static str, text: &str) -> Result<(Vec<u8>, String), Error> {
        let text = CString::new(text).expect("sources have no zero bytes");
        let name = CString::new(file).expect("names have no zero bytes");
        let program = Program::new(&text, &name)?;
        let architecture = format!("--gpu-architecture={}", self.architecture);
        let options: Vec<CString> = OPTIONS
            .into_iter()
            .chain([architecture.as_str()])
            .map(|option| CString::new(option).expect("options have no zero bytes"))
            .collect();
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program lives, and so many options are strings that outlive the call.
        let result = unsafe { sys::nvrtcCompileProgram(program.0, pointers.len() as i32, pointers.as_ptr()) };
        let log = program.log()?;
        if result != nvrtcResult::NVRTC_SUCCESS {
            return Err(Error::Compile { file, architecture: self.architecture.clone(), log });
        }
        Ok((program.binary()?, log))
    }
}

/// Where compiled code is kept.
fn cache() -> Option<PathBuf> {
    let given = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    given.or_else(home).map(|caches| caches.join("hetu"))
}

/// A program of the compiler's, which is given back at the end.
struct Program(nvrtcProgram);

impl Program {
    fn new(text: &CStr, name: &CStr) -> Result<Program, Error> {
        let mut program = std::ptr::null_mut();
        // SAFETY: both strings outlive the call, which copies them; there are no headers.
        let result = unsafe { sys::nvrtcCreateProgram(&mut program, text.as_ptr(), name.as_ptr(), 0, null(), null()) };
        check(result, "nvrtcCreateProgram")?;
        Ok(Program(program))
    }

    fn log(&self) -> Result<String, Error> {
        let mut size = 0;
        // SAFETY: the program lives, and the place is valid for the call.
        check(unsafe { sys::nvrtcGetProgramLogSize(self.0, &mut size) }, "nvrtcGetProgramLogSize")?;
        let mut log = vec![0_u8; size];
        // SAFETY: the buffer has as many bytes as the compiler says that it writes.
        check(unsafe { sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast()) }, "nvrtcGetProgramLog")?;
        Ok(String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned())
    }

    fn binary(&self) -> Result<Vec<u8>, Error> {
        let mut size = 0;
        // SAFETY: the program lives, and the place is valid for the call.
        check(unsafe { sys::nvrtcGetCUBINSize(self.0, &mut size) }, "nvrtcGetCUBINSize")?;
        let mut binary = vec![0_u8; size];
        // SAFETY: the buffer has as many bytes as the compiler says that it writes.
        check(unsafe { sys::nvrtcGetCUBIN(self.0, binary.as_mut_ptr().cast()) }, "nvrtcGetCUBIN")?;
        Ok(binary)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `nvrtcCreateProgram`, and not used after.
        unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

fn check(result: nvrtcResult, call: &'static str) -> Result<(), Error> {
    if result == nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    Err(Error::Call { call, reason: format!("{result:?}") })
}
