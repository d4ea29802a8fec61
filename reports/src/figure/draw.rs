//! Figures as files: SVG text and PNG pictures, for papers and slides.

use std::path::Path;
use std::sync::OnceLock;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::prelude::{BitMapBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, register_font};

use super::inline::TURN;
use super::{Bar, Colour, Figure, Lane, Rule, Scale, Size, Stroke, Swatch, Tone, Vertical};

const WIDTH: u32 = 1200;
const LANE: i32 = 20;
const PLOT_HEIGHT: i32 = 440;
const RIGHT: i32 = 30;
const BOTTOM: i32 = 56;
const TITLE: i32 = 44;
const LEGEND_LINE: i32 = 22;
const LABEL: i32 = 14;
const NOTE_LINE: i32 = 20;
const PNG_SCALE: i32 = 2;
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const FAINT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const GRID: RGBColor = RGBColor(0xe1, 0xe5, 0xea);

/// The figure as SVG text. Labels are text in the reader's own font.
pub(crate) fn svg(figure: &Figure) -> Result<String, String> {
    register();
    let mut text = String::new();
    let layout = Layout::of(figure);
    let area = SVGBackend::with_string(&mut text, (WIDTH, layout.height as u32)).into_drawing_area();
    draw(figure, &Canvas { layout: &layout, area: &area, scale: 1 })?;
    drop(area);
    Ok(text)
}

/// Writes the figure as a PNG picture, large enough for sharp print.
pub(crate) fn png(figure: &Figure, path: &Path) -> Result<(), String> {
    register();
    let layout = Layout::of(figure);
    let size = (WIDTH * PNG_SCALE as u32, (layout.height * PNG_SCALE) as u32);
    let area = BitMapBackend::new(path, size).into_drawing_area();
    draw(figure, &Canvas { layout: &layout, area: &area, scale: PNG_SCALE })
}

/// Both backends measure text with this font; the PNG also shows it.
fn register() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let registered = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
        assert!(registered.is_ok(), "the font that is built in can be read");
    });
}

/// Where the parts of a figure stand, in pixels.
struct Layout {
    left: i32,
    top: i32,
    width: i32,
    plot: i32,
    height: i32,
    /// Line and left edge of each legend entry.
    legend: Vec<(i32, i32)>,
}

impl Layout {
    fn of(figure: &Figure) -> Layout {
        let (labels, plot) = match &figure.vertical {
            Vertical::Scale(scale) => (scale.ticks().iter().map(|(_, text)| width_of(text)).max(), PLOT_HEIGHT),
            Vertical::Lanes(lanes) => {
                let name = |lane: &Lane| match lane {
                    Lane::Heading(_) => 0,
                    Lane::Bars(name) => width_of(name),
                };
                (lanes.iter().map(name).max(), lanes.len() as i32 * LANE)
            }
        };
        let left = labels.unwrap_or(0) + 46;
        let mut legend = Vec::new();
        let (mut line, mut x) = (0, left);
        for entry in &figure.legend {
            let needed = width_of(&entry.label) + 46;
            if x + needed > WIDTH as i32 - RIGHT && x > left {
                (line, x) = (line + 1, left);
            }
            legend.push((line, x));
            x += needed;
        }
        let lines = if figure.legend.is_empty() { 0 } else { line + 1 };
        let top = TITLE + lines * LEGEND_LINE + 12;
        let height = top + plot + BOTTOM + figure.notes.len() as i32 * NOTE_LINE;
        Layout { left, top, width: WIDTH as i32 - left - RIGHT, plot, height, legend }
    }

    fn x(&self, scale: &Scale, value: f64) -> i32 {
        self.left + (scale.share(value) * f64::from(self.width)).round() as i32
    }

    fn y(&self, scale: &Scale, value: f64) -> i32 {
        self.top + self.plot - (scale.share(value) * f64::from(self.plot)).round() as i32
    }
}

/// Width of a label in the embedded font; other fonts of its kind are narrower.
fn width_of(text: &str) -> i32 {
    let size = ("sans-serif", LABEL).into_font().box_size(text);
    size.map_or(0, |(width, _)| width as i32)
}

fn colour(colour: Colour) -> RGBColor {
    let [red, green, blue] = colour.light();
    RGBColor(red, green, blue)
}

/// Four parts of the colour, one of white.
fn soft(colour: Colour) -> RGBColor {
    let [red, green, blue] = colour.light().map(|part| ((u32::from(part) * 4 + 255) / 5) as u8);
    RGBColor(red, green, blue)
}

fn draw<DB: DrawingBackend>(figure: &Figure, canvas: &Canvas<'_, DB>) -> Result<(), String> {
    let layout = canvas.layout;
    canvas.area.fill(&RGBColor(255, 255, 255)).map_err(|fault| fault.to_string())?;
    canvas.text(&figure.title, (layout.left, 14), text(19, INK, HPos::Left, VPos::Top))?;
    canvas.legend(figure)?;
    canvas.horizontal(&figure.horizontal)?;
    match &figure.vertical {
        Vertical::Scale(scale) => canvas.points(figure, scale)?,
        Vertical::Lanes(lanes) => canvas.lanes(figure, lanes)?,
    }
    let below = layout.top + layout.plot + BOTTOM - 6;
    for (index, note) in figure.notes.iter().enumerate() {
        let y = below + index as i32 * NOTE_LINE;
        canvas.text(note, (layout.left, y), text(13, FAINT, HPos::Left, VPos::Top))?;
    }
    canvas.area.present().map_err(|fault| fault.to_string())
}

/// Draws in pixels; errors become text, since each backend has its own type of them.
struct Canvas<'a, DB: DrawingBackend> {
    layout: &'a Layout,
    area: &'a DrawingArea<DB, Shift>,
    /// Pixels of the picture for one pixel of the layout.
    scale: i32,
}

/// How a text looks, and which point of it is placed.
struct Style {
    size: i32,
    colour: RGBColor,
    anchor: Pos,
    turn: FontTransform,
}

fn text(size: i32, colour: RGBColor, horizontal: HPos, vertical: VPos) -> Style {
    Style { size, colour, anchor: Pos::new(horizontal, vertical), turn: FontTransform::None }
}

impl<DB: DrawingBackend> Canvas<'_, DB> {
    fn at(&self, (x, y): (i32, i32)) -> (i32, i32) {
        (x * self.scale, y * self.scale)
    }

    fn text(&self, words: &str, at: (i32, i32), style: Style) -> Result<(), String> {
        let font = ("sans-serif", style.size * self.scale).into_font().transform(style.turn);
        let style = font.color(&style.colour).pos(style.anchor);
        self.area.draw_text(words, &style, self.at(at)).map_err(|fault| fault.to_string())
    }

    fn line(&self, colour: RGBColor, width: i32) -> ShapeStyle {
        colour.stroke_width((width * self.scale) as u32)
    }

    fn path(&self, points: &[(i32, i32)], style: ShapeStyle) -> Result<(), String> {
        let points: Vec<(i32, i32)> = points.iter().map(|&point| self.at(point)).collect();
        self.area.draw(&PathElement::new(points, style)).map_err(|fault| fault.to_string())
    }

    fn rectangle(&self, corners: [(i32, i32); 2], fill: RGBColor) -> Result<(), String> {
        let corners = corners.map(|corner| self.at(corner));
        self.area.draw(&Rectangle::new(corners, fill.filled())).map_err(|fault| fault.to_string())
    }

    fn dot(&self, at: (i32, i32), radius: i32, fill: RGBColor) -> Result<(), String> {
        let circle = Circle::new(self.at(at), radius * self.scale, fill.filled());
        self.area.draw(&circle).map_err(|fault| fault.to_string())
    }

    fn stroke(&self, points: &[(i32, i32)], stroke: Stroke, style: ShapeStyle) -> Result<(), String> {
        match stroke {
            Stroke::Solid => self.path(points, style),
            Stroke::Dashed => dashes(points, 8.0, 5.0).iter().try_for_each(|dash| self.path(dash, style)),
        }
    }

    fn legend(&self, figure: &Figure) -> Result<(), String> {
        for (entry, &(row, x)) in figure.legend.iter().zip(&self.layout.legend) {
            let middle = TITLE + row * LEGEND_LINE + 9;
            let fill = colour(entry.colour);
            match entry.swatch {
                Swatch::Area => self.rectangle([(x, middle - 6), (x + 16, middle + 6)], fill)?,
                Swatch::Line(stroke) => self.stroke(&[(x, middle), (x + 22, middle)], stroke, self.line(fill, 3))?,
                Swatch::Dot => self.dot((x + 9, middle), 6, fill)?,
            }
            self.text(&entry.label, (x + 28, middle), text(LABEL, INK, HPos::Left, VPos::Center))?;
        }
        Ok(())
    }

    fn horizontal(&self, scale: &Scale) -> Result<(), String> {
        let bottom = self.layout.top + self.layout.plot;
        for (value, label) in scale.ticks() {
            let x = self.layout.x(scale, value);
            self.path(&[(x, self.layout.top), (x, bottom)], self.line(GRID, 1))?;
            self.text(&label, (x, bottom + 7), text(13, FAINT, HPos::Center, VPos::Top))?;
        }
        let middle = self.layout.left + self.layout.width / 2;
        self.text(&scale.label, (middle, bottom + 27), text(LABEL, INK, HPos::Center, VPos::Top))
    }

    fn lanes(&self, figure: &Figure, lanes: &[Lane]) -> Result<(), String> {
        for (index, lane) in lanes.iter().enumerate() {
            let middle = self.layout.top + index as i32 * LANE + LANE / 2;
            match lane {
                Lane::Heading(name) => {
                    self.text(name, (self.layout.left, middle), text(13, INK, HPos::Left, VPos::Center))?;
                }
                Lane::Bars(name) => {
                    let at = (self.layout.left - 8, middle);
                    self.text(name, at, text(13, FAINT, HPos::Right, VPos::Center))?;
                }
            }
        }
        figure.bars.iter().try_for_each(|bar| self.bar(&figure.horizontal, bar))
    }

    fn bar(&self, scale: &Scale, bar: &Bar) -> Result<(), String> {
        let ground = self.layout.top + (bar.lane as i32 + 1) * LANE - 3;
        let (_, height) = bar.rise(f64::from(LANE - 6));
        let [from, to] = [bar.from, bar.to].map(|value| self.layout.x(scale, value));
        let fill = match bar.tone {
            Tone::Full => colour(bar.colour),
            Tone::Soft => soft(bar.colour),
        };
        self.rectangle([(from, ground - height.round() as i32), (to.max(from + 1), ground)], fill)
    }

    fn points(&self, figure: &Figure, vertical: &Scale) -> Result<(), String> {
        let (layout, horizontal) = (self.layout, &figure.horizontal);
        let right = layout.left + layout.width;
        for (value, label) in vertical.ticks() {
            let y = layout.y(vertical, value);
            self.path(&[(layout.left, y), (right, y)], self.line(GRID, 1))?;
            self.text(&label, (layout.left - 8, y), text(13, FAINT, HPos::Right, VPos::Center))?;
        }
        let upright = Style { turn: FontTransform::Rotate270, ..text(LABEL, INK, HPos::Center, VPos::Top) };
        self.text(&vertical.label, (8, layout.top + layout.plot / 2), upright)?;
        let place = |(x, y): (f64, f64)| (layout.x(horizontal, x), layout.y(vertical, y));
        for each in &figure.lines {
            let points: Vec<(i32, i32)> = each.points.iter().map(|&point| place(point)).collect();
            self.stroke(&points, each.stroke, self.line(colour(each.colour), 2))?;
        }
        for dot in &figure.dots {
            match dot.size {
                Size::Small => self.dot(place(dot.at), 4, colour(dot.colour))?,
                Size::Large => self.diamond(place(dot.at), colour(dot.colour))?,
            }
            let (x, y) = place(dot.at);
            let (x, side) =
                if horizontal.share(dot.at.0) > TURN { (x - 11, HPos::Right) } else { (x + 11, HPos::Left) };
            self.text(&dot.label, (x, y), text(13, INK, side, VPos::Center))?;
        }
        let red = self.line(colour(Colour::Red), 2);
        for rule in &figure.rules {
            match rule {
                Rule::Level(value, label) => {
                    let y = layout.y(vertical, *value);
                    self.stroke(&[(layout.left, y), (right, y)], Stroke::Dashed, red)?;
                    let style = text(13, colour(Colour::Red), HPos::Right, VPos::Bottom);
                    self.text(label, (right - 4, y - 4), style)?;
                }
                Rule::Upright(value, label) => {
                    let x = layout.x(horizontal, *value);
                    self.stroke(&[(x, layout.top), (x, layout.top + layout.plot)], Stroke::Dashed, red)?;
                    let style = text(13, colour(Colour::Red), HPos::Right, VPos::Top);
                    self.text(label, (x - 6, layout.top + 4), style)?;
                }
            }
        }
        Ok(())
    }

    fn diamond(&self, (x, y): (i32, i32), fill: RGBColor) -> Result<(), String> {
        let corners = [(x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y)].map(|corner| self.at(corner)).to_vec();
        self.area.draw(&Polygon::new(corners, fill.filled())).map_err(|fault| fault.to_string())
    }
}

/// A line cut into dashes of one length with gaps of another, around its corners too.
fn dashes(points: &[(i32, i32)], dash: f64, gap: f64) -> Vec<Vec<(i32, i32)>> {
    let mut dashes: Vec<Vec<(i32, i32)>> = Vec::new();
    let mut along = 0.0;
    let period = dash + gap;
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let length = (x1 - x0).hypot(y1 - y0);
        let at = |distance: f64| {
            let share = if length > 0.0 { distance / length } else { 0.0 };
            ((x0 + (x1 - x0) * share).round() as i32, (y0 + (y1 - y0) * share).round() as i32)
        };
        let mut done = 0.0;
        while length - done > 1e-9 {
            let phase = (along + done) % period;
            let left = if phase < dash { dash - phase } else { period - phase };
            let end = (done + left.max(1e-6)).min(length);
            if phase < dash {
                dashes.push(vec![at(done), at(end)]);
            }
            done = end;
        }
        along += length;
    }
    dashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_go_on_around_corners() {
        let cut = dashes(&[(0, 0), (10, 0), (10, 20)], 8.0, 5.0);
        assert_eq!(cut[0], [(0, 0), (8, 0)]);
        assert_eq!(cut[1], [(10, 3), (10, 11)]);
    }
}
