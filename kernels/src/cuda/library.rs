//! Finds the libraries of the CUDA toolkit, which are often in a folder that the loader does not search: that of a
//! Python environment, or of a toolkit.
//!
//! Who loads a library by its name later gets the one that is already loaded under that name; so those found in such
//! folders are loaded here first, by their whole path.
#![allow(unsafe_code, reason = "loading a library runs its initialisers")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use cudarc::{cublaslt, driver, nvrtc};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::Error;

/// Folders to search first, with colons in between.
const FOLDERS: &str = "HETU_CUDA_LIBRARIES";
/// The compiler's library, or its folder.
const COMPILER: &str = "HETU_NVRTC";

/// Fails if there is no driver.
pub(crate) fn need_driver() -> Result<(), Error> {
    // SAFETY: asks the loader for the library and lets go of it; its initialisers have no preconditions.
    if unsafe { driver::sys::is_culib_present() } { Ok(()) } else { Err(Error::NoDriver) }
}

/// Fails if there is no runtime compiler.
pub(crate) fn need_compiler() -> Result<(), Error> {
    // The compiler looks for its second library by name, which the loader then knows.
    load_first("libnvrtc-builtins.so.");
    load_first("libnvrtc.so.");
    // SAFETY: as for the driver.
    let is_present = unsafe { nvrtc::sys::is_culib_present() };
    let missing = Error::NoLibrary { library: "libnvrtc.so", package: "nvidia-cuda-nvrtc" };
    if is_present { Ok(()) } else { Err(missing) }
}

/// Fails if there is no library of matrix products.
pub(crate) fn need_products() -> Result<(), Error> {
    load_first("libcublasLt.so.");
    // SAFETY: as for the driver.
    let is_present = unsafe { cublaslt::sys::is_culib_present() };
    let missing = Error::NoLibrary { library: "libcublasLt.so", package: "nvidia-cublas" };
    if is_present { Ok(()) } else { Err(missing) }
}

/// Loads the first library whose file name begins so, if one is in our folders.
fn load_first(prefix: &str) {
    if let Some(path) = find_library(prefix) {
        // SAFETY: the libraries of the toolkit have initialisers without preconditions.
        if let Ok(library) = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
            // It stays loaded: functions of it are called until the end.
            std::mem::forget(library);
        }
    }
}

/// The first file in the folders of the toolkit whose name is the prefix and a version, such as `libnccl.so.`; the last
/// of several in one folder.
pub fn find_library(prefix: &str) -> Option<PathBuf> {
    folders().into_iter().find_map(|folder| find(&folder, prefix))
}

/// The file in this folder whose name is the prefix and a version; the last of several.
fn find(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let is_version = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_wanted =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.strip_prefix(prefix)).is_some_and(is_version);
    entries.flatten().map(|entry| entry.path()).filter(is_wanted).max()
}

/// Where libraries may be: as the user says, in the active Python environment, in the toolkit.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(path) = env::var_os(COMPILER).map(PathBuf::from) {
        folders.push(if path.is_dir() { path } else { path.parent().map(Path::to_owned).unwrap_or_default() });
    }
    if let Some(list) = env::var_os(FOLDERS) {
        folders.extend(env::split_paths(&list));
    }
    if let Some(environment) = env::var_os("VIRTUAL_ENV") {
        let pythons = children(&Path::new(&environment).join("lib"));
        let packages = pythons.iter().flat_map(|python| children(&python.join("site-packages/nvidia")));
        folders.extend(packages.map(|package| package.join("lib")));
    }
    folders.extend(env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("lib64")));
    folders.push(PathBuf::from("/usr/local/cuda/lib64"));
    folders
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    paths.sort();
    paths
}
