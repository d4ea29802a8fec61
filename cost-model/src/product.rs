//! Products of matrices, measured at some sizes and asked for at others.

use crate::shape::Shape;

/// How far measured products are from what the roofline says, by size and form.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductSurface {
    points: Vec<Point>,
}

#[derive(Clone, Debug)]
struct Point {
    /// Logarithms of rows, columns and inner size.
    place: [f64; 3],
    form: String,
    /// Logarithm of measured over modelled time.
    excess: f64,
}

/// What it costs in squared distance that one factor is stored otherwise: as much as twice the size in one dimension.
const FORM_DISTANCE: f64 = 0.48;

/// Keeps the weight of a point finite; far below the squared distance of any two sizes that differ.
const NEAREST: f64 = 1e-9;

impl ProductSurface {
    /// Adds a measurement that took `measured` where the roofline says `modelled`, in seconds.
    pub(crate) fn add(&mut self, shape: &Shape, measured: f64, modelled: f64) {
        if measured > 0.0 && modelled > 0.0 {
            let excess = (measured / modelled).ln();
            self.points.push(Point { place: shape.product().map(f64::ln), form: shape.form.clone(), excess });
        }
    }

    /// Measured over modelled time at `shape`; none if nothing was measured.
    ///
    /// A mean of all points weighted by the inverse fourth power of their distance in logarithms of the sizes
    /// (Shepard 1968): near points decide, and outside of what was measured the last known efficiency holds.
    pub(crate) fn excess(&self, shape: &Shape) -> Option<f64> {
        let place = shape.product().map(f64::ln);
        let (mut total, mut weights) = (0.0, 0.0);
        for point in &self.points {
            let sizes: f64 = place.iter().zip(&point.place).map(|(a, b)| (a - b) * (a - b)).sum();
            let forms = shape.form.chars().zip(point.form.chars()).filter(|(a, b)| a != b).count();
            let distance = sizes + forms as f64 * FORM_DISTANCE + NEAREST;
            let weight = 1.0 / (distance * distance);
            total += weight * point.excess;
            weights += weight;
        }
        (weights > 0.0).then(|| (total / weights).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        Shape::parse(text).expect("a product")
    }

    #[test]
    fn the_nearest_measurement_of_the_same_form_decides() {
        let mut surface = ProductSurface::default();
        surface.add(&shape("m64 n64 k64 nn"), 2.0, 1.0);
        surface.add(&shape("m64 n64 k64 tt"), 8.0, 1.0);
        surface.add(&shape("m4096 n4096 k4096 nn"), 1.0, 1.0);
        let excess = |text: &str| surface.excess(&shape(text)).expect("points");
        assert!((excess("m64 n64 k64 nn") - 2.0).abs() < 1e-6);
        assert!((excess("m64 n64 k64 tt") - 8.0).abs() < 1e-6);
        assert!((excess("m65536 n65536 k65536 nn") - 1.0).abs() < 0.3);
    }
}
