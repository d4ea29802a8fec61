//! Products of matrices, measured at some sizes and asked for at others.

use ir::op::{Product, Storage};

use crate::shape::product_sizes;

/// How far measured products are from what the roofline says, by size and form.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductSurface {
    points: Vec<Point>,
}

#[derive(Clone, Debug)]
struct Point {
    /// Logarithms of rows, columns and inner size.
    place: [f64; 3],
    /// How the factors are stored.
    form: [Storage; 2],
    /// Logarithm of measured over modelled time.
    excess: f64,
}

/// What it costs in squared distance that one factor is stored otherwise: as much as twice the size in one dimension.
const FORM_DISTANCE: f64 = 0.48;

/// Keeps the weight of a point finite; far below the squared distance of any two sizes that differ.
const NEAREST: f64 = 1e-9;

impl ProductSurface {
    /// Adds a measurement that took `measured` where the roofline says `modelled`, in seconds.
    pub(crate) fn add(&mut self, product: &Product, measured: f64, modelled: f64) {
        if measured > 0.0 && modelled > 0.0 {
            let excess = (measured / modelled).ln();
            self.points.push(Point { place: product_sizes(product).map(f64::ln), form: form(product), excess });
        }
    }

    /// Measured over modelled time of `product`; none if nothing was measured.
    ///
    /// A mean of all points weighted by the inverse fourth power of their distance in logarithms of the sizes
    /// (Shepard 1968): near points decide, and outside of what was measured the last known efficiency holds.
    pub(crate) fn excess(&self, product: &Product) -> Option<f64> {
        let place = product_sizes(product).map(f64::ln);
        let form = form(product);
        let (mut total, mut weights) = (0.0, 0.0);
        for point in &self.points {
            let sizes: f64 = place.iter().zip(&point.place).map(|(a, b)| (a - b) * (a - b)).sum();
            let forms = form.iter().zip(&point.form).filter(|(a, b)| a != b).count();
            let distance = sizes + forms as f64 * FORM_DISTANCE + NEAREST;
            let weight = 1.0 / (distance * distance);
            total += weight * point.excess;
            weights += weight;
        }
        (weights > 0.0).then(|| (total / weights).exp())
    }
}

fn form(product: &Product) -> [Storage; 2] {
    [product.a, product.b]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cube(size: u64, storage: Storage) -> Product {
        Product { rows: size, columns: size, inner: size, a: storage, b: storage }
    }

    #[test]
    fn the_nearest_measurement_of_the_same_form_decides() {
        let [plain, transposed] = [Storage::InnerLast, Storage::InnerFirst];
        let mut surface = ProductSurface::default();
        surface.add(&cube(64, plain), 2.0, 1.0);
        surface.add(&cube(64, transposed), 8.0, 1.0);
        surface.add(&cube(4096, plain), 1.0, 1.0);
        let excess = |product: &Product| surface.excess(product).expect("points");
        assert!((excess(&cube(64, plain)) - 2.0).abs() < 1e-6);
        assert!((excess(&cube(64, transposed)) - 8.0).abs() < 1e-6);
        assert!((excess(&cube(65536, plain)) - 1.0).abs() < 0.3);
    }
}
