//! Ways of products, as they stand in a plan.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error, Unexpected};
use serde::{Deserialize, Serialize, Serializer};

use super::locate::Segment;
use super::parse::{Checks, keys};
use super::print::scalar;
use crate::graph::Element;
use crate::op::{Addend, OpKind, Write};
use crate::profile::{Shape, Work};
use crate::ways::{Way, Ways};

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Way, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"at most eight words of hexadecimal digits, such as \"42-0-ff\"";
        text.parse().map_err(|_| Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

impl Serialize for Way {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Ways of products, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Products {
    library: String,
    ways: Vec<Told>,
}

/// The way of one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    shape: Shape,
    element: Element,
    #[serde(default)]
    write: Write,
    #[serde(default)]
    addend: Addend,
    way: Way,
}

/// The ways that a file tells, checked.
pub(super) fn ways(products: Option<&Products>, checks: &mut Checks) -> Ways {
    let Some(Products { library, ways: told }) = products else { return Ways::default() };
    checks.name(&keys(["products", "library"]), library);
    let mut ways = Ways { library: library.clone(), products: BTreeMap::new() };
    for (index, Told { shape, element, write, addend, way }) in told.iter().enumerate() {
        let path = |key: &str| -> [Segment; 4] { ["products".into(), "ways".into(), index.into(), key.into()] };
        if !matches!(shape, Shape::Product(_)) {
            let what = format!("`{shape}` is not a shape of a product");
            checks.wrong_but(&path("shape"), what, "write rows, columns and inner size, such as `m8 n4 k16 nt`");
        }
        let (op, shape) = (OpKind::MatMul, shape.clone());
        let work = Work::Kernel { op, element: *element, shape, write: *write, addend: *addend };
        if ways.products.insert(work, *way).is_some() {
            checks.wrong(&path("shape"), "a way of this product stands above".to_owned());
        }
    }
    ways
}

/// The same as text, behind all else.
pub(super) fn print_ways(ways: &Ways, text: &mut String) {
    if ways.is_empty() {
        return;
    }
    *text += &format!("products:\n  library: {}\n  ways:\n", scalar(&ways.library));
    for (work, way) in &ways.products {
        let Work::Kernel { element, shape, write, addend, .. } = work else { continue };
        let (element, shape) = (element.name(), scalar(&shape.to_string()));
        let write = if *write == Write::Accumulate { ", write: accumulate" } else { "" };
        let addend = if *addend == Addend::Present { ", addend: present" } else { "" };
        *text += &format!("  - {{ shape: {shape}, element: {element}{write}{addend}, way: \"{way}\" }}\n");
    }
}
