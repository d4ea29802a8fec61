//! Figures as data: drawn once as a file (SVG, PNG) and once into the page, from the same numbers.

pub(crate) mod draw;
pub(crate) mod inline;
mod scale;

pub(crate) use scale::Scale;

/// A picture with two axes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure {
    /// Stem of its files.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// The axis to the right.
    pub(crate) horizontal: Scale,
    /// The axis upwards, or lanes downwards.
    pub(crate) vertical: Vertical,
    /// Pieces of lanes.
    pub(crate) bars: Vec<Bar>,
    /// Lines through points.
    pub(crate) lines: Vec<Line>,
    /// Single points.
    pub(crate) dots: Vec<Dot>,
    /// Limits.
    pub(crate) rules: Vec<Rule>,
    /// What colours mean.
    pub(crate) legend: Vec<Entry>,
    /// What the reader should know about what is not shown.
    pub(crate) notes: Vec<String>,
    /// Whether a reader can look closer along the horizontal axis.
    pub(crate) zoom: Zoom,
}

/// Whether a reader can look closer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Zoom {
    /// All is seen at once.
    #[default]
    Fixed,
    /// A part of the horizontal axis can fill the figure.
    Horizontal,
}

/// What stands to the left.
#[derive(Clone, Debug)]
pub(crate) enum Vertical {
    /// Numbers, upwards.
    Scale(Scale),
    /// Names, downwards.
    Lanes(Vec<Lane>),
}

impl Default for Vertical {
    fn default() -> Vertical {
        Vertical::Lanes(Vec::new())
    }
}

/// One row of a figure.
#[derive(Clone, Debug)]
pub(crate) enum Lane {
    /// The name of the lanes below.
    Heading(String),
    /// A row of bars.
    Bars(String),
}

/// A piece of a lane.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Which lane.
    pub(crate) lane: usize,
    /// Where it begins.
    pub(crate) from: f64,
    /// Where it ends.
    pub(crate) to: f64,
    /// Its colour.
    pub(crate) colour: Colour,
    /// How strong the colour is.
    pub(crate) tone: Tone,
    /// Which part of its length it stands for, from 0 to 1: its height, as a part of the lane.
    pub(crate) fill: f64,
    /// What a reader sees when pointing at it.
    pub(crate) title: String,
}

impl Bar {
    /// Top and height in a lane of this height, so that it stands on the ground of the lane and can be seen.
    pub(crate) fn rise(&self, lane: f64) -> (f64, f64) {
        const HEIGHT_MIN: f64 = 1.5;
        let height = (self.fill * lane).clamp(HEIGHT_MIN.min(lane), lane);
        (lane - height, height)
    }
}

/// How strong a colour is: neighbours of one colour can be told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Full,
    /// Mixed with a little of the ground.
    Soft,
}

impl Tone {
    /// The tones of a row of neighbours take turns.
    pub(crate) fn of(index: u16) -> Tone {
        if index.is_multiple_of(2) { Tone::Full } else { Tone::Soft }
    }
}

/// A line through points.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
    /// Its colour.
    pub(crate) colour: Colour,
    /// How it is drawn.
    pub(crate) stroke: Stroke,
    /// What a reader sees when pointing at it.
    pub(crate) title: String,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// Without gaps.
    Solid,
    /// With gaps.
    Dashed,
}

/// A single point.
#[derive(Clone, Debug)]
pub(crate) struct Dot {
    /// Where, to the right and upwards.
    pub(crate) at: (f64, f64),
    /// Its colour.
    pub(crate) colour: Colour,
    /// How large it is.
    pub(crate) size: Size,
    /// What stands beside it, if anything does.
    pub(crate) label: String,
    /// What a reader sees when pointing at it.
    pub(crate) title: String,
}

/// How large a dot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// One of many.
    Small,
    /// One that matters.
    Large,
}

/// A limit across the whole figure.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// At this height.
    Level(f64, String),
    /// At this place to the right.
    Upright(f64, String),
}

/// What a colour means.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The colour.
    pub(crate) colour: Colour,
    /// How it is shown.
    pub(crate) swatch: Swatch,
    /// What it means.
    pub(crate) label: String,
}

/// How a legend shows a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swatch {
    /// A filled square.
    Area,
    /// A piece of line.
    Line(Stroke),
    /// A dot.
    Dot,
}

/// Colours that can be told apart, on light and on dark ground, also with most kinds of colour blindness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Colour {
    /// Kernels, forward.
    Blue,
    /// Kernels beside which data moves.
    Sky,
    /// Kernels, backward.
    Teal,
    /// Kernels, update.
    Purple,
    /// Exchanges over data.
    Orange,
    /// Exchanges over tensor.
    Gold,
    /// Exchanges over pipeline.
    Pink,
    /// Transfers.
    Brown,
    /// Nothing.
    Grey,
    /// Limits.
    Red,
}

impl Colour {
    /// All colours, in a fixed order.
    pub(crate) const ALL: [Colour; 10] = [
        Colour::Blue,
        Colour::Sky,
        Colour::Teal,
        Colour::Purple,
        Colour::Orange,
        Colour::Gold,
        Colour::Pink,
        Colour::Brown,
        Colour::Grey,
        Colour::Red,
    ];

    /// Those that tell series of lines apart, as unlike as can be from one to the next.
    pub(crate) const SERIES: [Colour; 7] =
        [Colour::Blue, Colour::Orange, Colour::Teal, Colour::Purple, Colour::Gold, Colour::Pink, Colour::Brown];

    /// Its word in style sheets.
    pub(crate) fn name(self) -> &'static str {
        ["blue", "sky", "teal", "purple", "orange", "gold", "pink", "brown", "grey", "red"][self as usize]
    }

    /// Red, green and blue on light ground.
    pub(crate) fn light(self) -> [u8; 3] {
        match self {
            Colour::Blue => [0x2f, 0x6f, 0xc4],
            Colour::Sky => [0x9c, 0xc3, 0xee],
            Colour::Teal => [0x1a, 0x93, 0x82],
            Colour::Purple => [0x7e, 0x55, 0xc0],
            Colour::Orange => [0xe0, 0x7b, 0x27],
            Colour::Gold => [0xe3, 0xbe, 0x3a],
            Colour::Pink => [0xd1, 0x5a, 0x93],
            Colour::Brown => [0x8c, 0x5f, 0x43],
            Colour::Grey => [0xc6, 0xcc, 0xd3],
            Colour::Red => [0xc9, 0x2f, 0x2f],
        }
    }

    /// Red, green and blue on dark ground.
    pub(crate) fn dark(self) -> [u8; 3] {
        match self {
            Colour::Blue => [0x5a, 0x97, 0xea],
            Colour::Sky => [0x33, 0x5d, 0x92],
            Colour::Teal => [0x38, 0xb5, 0xa2],
            Colour::Purple => [0xa6, 0x83, 0xe6],
            Colour::Orange => [0xf0, 0x93, 0x4a],
            Colour::Gold => [0xd9, 0xb9, 0x45],
            Colour::Pink => [0xe9, 0x82, 0xb4],
            Colour::Brown => [0xb4, 0x86, 0x68],
            Colour::Grey => [0x57, 0x60, 0x6b],
            Colour::Red => [0xff, 0x7b, 0x72],
        }
    }
}

impl Entry {
    /// A filled square and what it means.
    pub(crate) fn area(colour: Colour, label: &str) -> Entry {
        Entry { colour, swatch: Swatch::Area, label: label.to_owned() }
    }

    /// A piece of line and what it means.
    pub(crate) fn line(colour: Colour, stroke: Stroke, label: &str) -> Entry {
        Entry { colour, swatch: Swatch::Line(stroke), label: label.to_owned() }
    }

    /// A dot and what it means.
    pub(crate) fn dot(colour: Colour, label: &str) -> Entry {
        Entry { colour, swatch: Swatch::Dot, label: label.to_owned() }
    }
}
