//! Matrix products by cuBLASLt: factors in bf16 or f32 (never in a shortened form of it), sums in f32.
//!
//! The library counts columns first, so it is asked for the transpose: rows of the result are its columns, and our
//! second factor is its first.
#![allow(unsafe_code, reason = "the library of products is a C library")]

use std::ffi::c_void;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::cublaslt::sys::{self as lt, cublasStatus_t, cudaDataType};
use ir::graph::Element;
use ir::op::{Addend, Storage, Write};
use ir::program::{Kernel, Operand};
use ir::ways::{Way, Ways};

use super::driver::Stream;
use super::{Error, library};

/// What the library advises for devices of this time.
pub(crate) const WORKSPACE: u64 = 32 << 20;
/// How many ways to compute a product are asked for: the library has seldom more.
const CANDIDATES: usize = 8;
/// Operands that lie at less than this are computed as the library expects to be fastest.
const ALIGNMENT: u32 = 16;

/// How the way to compute a product is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Choice {
    /// As the library expects to be fastest: the same on every run.
    #[default]
    Expected,
    /// As these say, if they are of this version of the library and it can: the same on every run.
    Known(Arc<Ways>),
    /// The fastest of those that the library has: two runs may choose differently, and round differently.
    Measured,
}

/// The library and its version, in words.
pub fn product_library() -> Result<String, Error> {
    library::need_products()?;
    // SAFETY: the library is present, and the function has no preconditions.
    let version = unsafe { lt::cublasLtGetVersion() };
    Ok(format!("cuBLASLt {}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100))
}

/// The library, for one device.
pub(crate) struct Library(lt::cublasLtHandle_t);

impl Library {
    pub(crate) fn open() -> Result<Library, Error> {
        library::need_products()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the place is valid, and a context is current.
        check(unsafe { lt::cublasLtCreate(&mut handle) }, "cublasLtCreate")?;
        Ok(Library(handle))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: made by `cublasLtCreate`; products hold the library, so none is left.
        unsafe { lt::cublasLtDestroy(self.0) };
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library({:p})", self.0)
    }
}

/// A product with all but addresses decided.
pub(crate) struct Product {
    library: Rc<Library>,
    description: Description,
    first: Layout,
    second: Layout,
    result: Layout,
    algorithm: lt::cublasLtMatmulAlgo_t,
    /// What is read beside the factors is multiplied by this: the old content of the result, or the addend.
    keep: f32,
}

/// Addresses of a product.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) result: u64,
    /// Where what is added to the product lies: the result itself, if it is added to or nothing is.
    pub(crate) addend: u64,
    pub(crate) workspace: u64,
}

impl Product {
    pub(crate) fn new(library: Rc<Library>, kernel: &Kernel, choice: &Choice) -> Result<Product, Error> {
        let (mut product, ways) = Product::with_ways(library, kernel)?;
        let way = match choice {
            Choice::Expected => None,
            Choice::Known(known) => product.known(kernel, known)?,
            Choice::Measured => super::tune::fastest(&mut product, &ways, kernel)?,
        };
        product.turn_to(way.unwrap_or(ways[0]));
        Ok(product)
    }

    /// A way that is known of this product, if it can be computed so.
    fn known(&self, kernel: &Kernel, ways: &Ways) -> Result<Option<Way>, Error> {
        let Some(&way) = ways.products.get(&kernel.work()) else { return Ok(None) };
        let is_aligned = kernel.operands().all(|operand| alignment(operand) >= ALIGNMENT);
        let is_possible = is_aligned && ways.library == product_library()?;
        Ok((is_possible && self.can(&lt::cublasLtMatmulAlgo_t { data: way.0 })).then_some(way))
    }

    /// The product, and the ways in which it can be computed, from the one that is expected to be fastest; never none.
    pub(crate) fn with_ways(library: Rc<Library>, kernel: &Kernel) -> Result<(Product, Vec<Way>), Error> {
        let shape = kernel.product();
        let [a, b, result] = [&kernel.inputs[0], &kernel.inputs[1], &kernel.outputs[0].operand];
        let addend = kernel.addend().unwrap_or(result);
        let is_known = matches!(
            (a.element, b.element, result.element),
            (Element::F32, Element::F32, Element::F32) | (Element::Bf16, Element::Bf16, Element::F32 | Element::Bf16)
        );
        if !is_known || addend.element != result.element {
            let words = [a, b, result, addend].map(|operand| operand.element.name()).join(", ");
            return Err(Error::Unsupported { op: kernel.op.name(), why: format!("operands in {words}") });
        }
        let description = Description::new(shape.b == Storage::InnerLast, shape.a == Storage::InnerFirst)?;
        let first = match shape.b {
            Storage::InnerLast => Layout::new(b.element, shape.inner, shape.columns)?,
            Storage::InnerFirst => Layout::new(b.element, shape.columns, shape.inner)?,
        };
        let second = match shape.a {
            Storage::InnerLast => Layout::new(a.element, shape.inner, shape.rows)?,
            Storage::InnerFirst => Layout::new(a.element, shape.rows, shape.inner)?,
        };
        let to = Layout::new(result.element, shape.columns, shape.rows)?;
        // An addend has the layout of the result, so that both are read by the same way with the same factor.
        let keep = match (kernel.outputs[0].write, kernel.addend_kind()) {
            (Write::Replace, Addend::Absent) => 0.0,
            (Write::Accumulate, Addend::Absent) | (Write::Replace, Addend::Present) => 1.0,
            (Write::Accumulate, Addend::Present) => {
                return Err(Error::Unsupported { op: kernel.op.name(), why: "two addends".to_owned() });
            }
        };
        let preference = Preference::new([b, a, addend, result])?;
        let product = Product { library, description, first, second, result: to, algorithm: unset(), keep };
        let ways = product.ways(&preference)?;
        Ok((product, ways))
    }

    fn ways(&self, preference: &Preference) -> Result<Vec<Way>, Error> {
        let (mut results, mut count) = ([unknown(); CANDIDATES], 0);
        // SAFETY: all descriptors live, and there is room for as many results as are asked for.
        let status = unsafe {
            lt::cublasLtMatmulAlgoGetHeuristic(
                self.library.0,
                self.description.0,
                self.first.0,
                self.second.0,
                self.result.0,
                self.result.0,
                preference.0,
                CANDIDATES as i32,
                results.as_mut_ptr(),
                &mut count,
            )
        };
        check(status, "cublasLtMatmulAlgoGetHeuristic")?;
        let usable = results.iter().take(count as usize);
        let usable = usable.filter(|result| result.state == cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        let usable: Vec<Way> = usable.map(|result| Way(result.algo.data)).collect();
        if usable.is_empty() {
            return Err(Error::Unsupported {
                op: "matmul",
                why: "the library knows no way for these sizes".to_owned(),
            });
        }
        Ok(usable)
    }

    /// The library's own check of a way: whether it can compute this product with the workspace that there is.
    fn can(&self, algorithm: &lt::cublasLtMatmulAlgo_t) -> bool {
        let mut result = unknown();
        // SAFETY: all descriptors live; the algorithm is data that the library checks, and the place is valid.
        let status = unsafe {
            lt::cublasLtMatmulAlgoCheck(
                self.library.0,
                self.description.0,
                self.first.0,
                self.second.0,
                self.result.0,
                self.result.0,
                algorithm,
                &mut result,
            )
        };
        status == cublasStatus_t::CUBLAS_STATUS_SUCCESS && result.workspaceSize <= WORKSPACE as usize
    }

    /// Computes it in another way from now on.
    pub(crate) fn turn_to(&mut self, way: Way) {
        self.algorithm = lt::cublasLtMatmulAlgo_t { data: way.0 };
    }

    /// Enqueues it.
    pub(crate) fn launch(&self, stream: &Stream, at: Factors) -> Result<(), Error> {
        let one = 1.0_f32;
        let pointer = |address: u64| address as *mut c_void;
        // SAFETY: descriptors and algorithm live and belong together; the scalars are read before the call returns;
        // that operands lie at the addresses is what the caller of `Prepared::launch` promises.
        let status = unsafe {
            lt::cublasLtMatmul(
                self.library.0,
                self.description.0,
                (&raw const one).cast(),
                pointer(at.b),
                self.first.0,
                pointer(at.a),
                self.second.0,
                (&raw const self.keep).cast(),
                pointer(at.addend),
                self.result.0,
                pointer(at.result),
                self.result.0,
                &self.algorithm,
                pointer(at.workspace),
                WORKSPACE as usize,
                stream.0.cast(),
            )
        };
        check(status, "cublasLtMatmul")
    }
}

impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Product({:?})", self.algorithm.data)
    }
}

/// Of a way of which nothing is known.
fn unknown() -> lt::cublasLtMatmulHeuristicResult_t {
    lt::cublasLtMatmulHeuristicResult_t {
        algo: unset(),
        workspaceSize: 0,
        state: cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
        wavesCount: 0.0,
        reserved: [0; 4],
    }
}

/// Not yet chosen.
fn unset() -> lt::cublasLtMatmulAlgo_t {
    lt::cublasLtMatmulAlgo_t { data: [0; 8] }
}

/// What is computed: sums in f32, and which factors are transposed.
struct Description(lt::cublasLtMatmulDesc_t);

impl Description {
    fn new(first: impl Into<i32>, second: impl Into<i32>) -> Result<Description, Error> {
        let mut description = std::ptr::null_mut();
        let (sums, scalars) = (lt::cublasComputeType_t::CUBLAS_COMPUTE_32F, cudaDataType::CUDA_R_32F);
        // SAFETY: the place is valid.
        let status = unsafe { lt::cublasLtMatmulDescCreate(&mut description, sums, scalars) };
        check(status, "cublasLtMatmulDescCreate")?;
        let description = Description(description);
        type Attribute = lt::cublasLtMatmulDescAttributes_t;
        let transposed = [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, first.into()),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, second.into()),
        ];
        for (attribute, value) in transposed {
            let value: i32 = value;
            // SAFETY: the value is valid for its size.
            let status = unsafe {
                lt::cublasLtMatmulDescSetAttribute(
                    description.0,
                    attribute,
                    (&raw const value).cast(),
                    size_of::<i32>(),
                )
            };
            check(status, "cublasLtMatmulDescSetAttribute")?;
        }
        Ok(description)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made by the library, and not used after.
        unsafe { lt::cublasLtMatmulDescDestroy(self.0) };
    }
}

/// A dense matrix, columns first.
struct Layout(lt::cublasLtMatrixLayout_t);

impl Layout {
    fn new(element: Element, rows: u64, columns: u64) -> Result<Layout, Error> {
        let kind = match element {
            Element::F32 => cudaDataType::CUDA_R_32F,
            Element::Bf16 => cudaDataType::CUDA_R_16BF,
            Element::I32 => cudaDataType::CUDA_R_32I,
        };
        let mut layout = std::ptr::null_mut();
        // SAFETY: the place is valid.
        let status = unsafe { lt::cublasLtMatrixLayoutCreate(&mut layout, kind, rows, columns, rows as i64) };
        check(status, "cublasLtMatrixLayoutCreate")?;
        Ok(Layout(layout))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by the library, and not used after.
        unsafe { lt::cublasLtMatrixLayoutDestroy(self.0) };
    }
}

/// What ways may use: our workspace, sums in f32 throughout, and no more alignment than there is.
struct Preference(lt::cublasLtMatmulPreference_t);

impl Preference {
    /// For the library's first and second factor, what it adds, and its result.
    fn new(operands: [&Operand; 4]) -> Result<Preference, Error> {
        type Attribute = lt::cublasLtMatmulPreferenceAttributes_t;
        let mut preference = std::ptr::null_mut();
        // SAFETY: the place is valid.
        check(unsafe { lt::cublasLtMatmulPreferenceCreate(&mut preference) }, "cublasLtMatmulPreferenceCreate")?;
        let preference = Preference(preference);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE)?;
        let reduction = lt::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction)?;
        let [first, second, addend, result] = operands.map(alignment);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, first)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, second)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, addend)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, result)?;
        Ok(preference)
    }

    fn set<T: Copy>(&self, attribute: lt::cublasLtMatmulPreferenceAttributes_t, value: T) -> Result<(), Error> {
        // SAFETY: the value is valid for its size, which the library checks against the attribute's.
        let status = unsafe {
            lt::cublasLtMatmulPreferenceSetAttribute(self.0, attribute, (&raw const value).cast(), size_of::<T>())
        };
        check(status, "cublasLtMatmulPreferenceSetAttribute")
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by the library, and not used after.
        unsafe { lt::cublasLtMatmulPreferenceDestroy(self.0) };
    }
}

/// The power of two that divides an operand's address, if buffers begin at multiples of 16.
fn alignment(operand: &Operand) -> u32 {
    1 << operand.offset.trailing_zeros().min(4)
}

fn check(status: cublasStatus_t, call: &'static str) -> Result<(), Error> {
    if status == cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    Err(Error::Call { call, reason: format!("{status:?}") })
}
