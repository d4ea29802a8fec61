//! Figures inside the page: shapes stretch with the window, labels stay text of a readable size, colours follow the
//! reader's light or dark setting, and pointing at a shape says what it is.

use std::fmt::Write as _;

use super::{Figure, Lane, Rule, Size, Stroke, Swatch, Tone, Vertical, Zoom};
use crate::page::escape;

/// Shapes are drawn on a square of this size, which the page stretches.
const SQUARE: f64 = 1000.0;
/// Height of a lane, in pixels.
const LANE: usize = 18;

/// The figure as HTML.
pub(crate) fn html(figure: &Figure) -> String {
    let mut html = String::new();
    let zoom = figure.zoom == Zoom::Horizontal;
    let _ = write!(html, "<figure class=\"chart{}\"", if zoom { " zoom" } else { "" });
    let scale = &figure.horizontal;
    let _ = writeln!(html, " data-from=\"{}\" data-to=\"{}\">", scale.from, scale.to);
    legend(&mut html, figure);
    if zoom {
        html.push_str(
            "<div class=\"buttons\" hidden><button data-do=\"in\">closer</button><button data-do=\"out\">wider</button>\
             <button data-do=\"left\" aria-label=\"earlier\">←</button><button data-do=\"right\" aria-label=\"later\">→</button>\
             <button data-do=\"all\">whole step</button><span>or drag across the figure</span></div>\n",
        );
    }
    let height = match &figure.vertical {
        Vertical::Scale(_) => 320,
        Vertical::Lanes(lanes) => lanes.len() * LANE,
    };
    if let Vertical::Scale(vertical) = &figure.vertical {
        let _ = writeln!(html, "<div class=\"upward\">{}</div>", escape(&vertical.label));
    }
    let _ = write!(html, "<div class=\"plot\" style=\"height:{height}px\">");
    left(&mut html, &figure.vertical);
    let _ = write!(html, "<div class=\"area\">");
    shapes(&mut html, figure);
    rule_labels(&mut html, figure);
    dot_labels(&mut html, figure);
    if let Vertical::Lanes(lanes) = &figure.vertical {
        for (index, lane) in lanes.iter().enumerate() {
            if let Lane::Heading(name) = lane {
                let _ = write!(html, "<b class=\"heading\" style=\"top:{}px\">{}</b>", index * LANE, escape(name));
            }
        }
    }
    html.push_str("</div>");
    html.push_str("<div></div><div class=\"ticks\">");
    for (value, label) in scale.ticks() {
        let _ = write!(html, "<span style=\"left:{}%\">{label}</span>", short(scale.share(value) * 100.0));
    }
    let _ = writeln!(html, "</div></div>\n<div class=\"across\">{}</div>", escape(&scale.label));
    for note in &figure.notes {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    html.push_str("</figure>\n");
    html
}

/// At most two decimals, without zeros at the end.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn legend(html: &mut String, figure: &Figure) {
    html.push_str("<div class=\"legend\">");
    for entry in &figure.legend {
        let kind = match entry.swatch {
            Swatch::Area => "square",
            Swatch::Line(Stroke::Solid) => "solid",
            Swatch::Line(Stroke::Dashed) => "dashed",
            Swatch::Dot => "round",
        };
        let name = entry.colour.name();
        let _ = write!(html, "<span><i class=\"{kind} {name}\"></i>{}</span>", escape(&entry.label));
    }
    html.push_str("</div>\n");
}

fn left(html: &mut String, vertical: &Vertical) {
    match vertical {
        Vertical::Scale(scale) => {
            // The widest label, unseen, gives the column its width; the others hang at their heights.
            let ticks = scale.ticks();
            let widest = ticks.iter().map(|(_, label)| label.as_str()).max_by_key(|label| label.chars().count());
            let _ = write!(html, "<div class=\"numbers\"><s>{}</s>", widest.unwrap_or(""));
            for (value, label) in &ticks {
                let _ =
                    write!(html, "<span style=\"top:{}%\">{label}</span>", short((1.0 - scale.share(*value)) * 100.0));
            }
        }
        Vertical::Lanes(lanes) => {
            html.push_str("<div class=\"names\">");
            for lane in lanes {
                let name = match lane {
                    Lane::Heading(_) => "",
                    Lane::Bars(name) => name,
                };
                let _ = write!(html, "<span>{}</span>", escape(name));
            }
        }
    }
    html.push_str("</div>");
}

fn shapes(html: &mut String, figure: &Figure) {
    let horizontal = &figure.horizontal;
    let _ = writeln!(html, "<svg viewBox=\"0 0 {SQUARE} {SQUARE}\" preserveAspectRatio=\"none\" role=\"img\">");
    let _ = writeln!(html, "<title>{}</title>", escape(&figure.title));
    let x = |value: f64| short(horizontal.share(value) * SQUARE);
    html.push_str("<path class=\"grid\" d=\"");
    for (value, _) in horizontal.ticks() {
        let _ = write!(html, "M{} 0V{SQUARE}", x(value));
    }
    html.push_str("\"/>\n");
    match &figure.vertical {
        Vertical::Lanes(lanes) => bars(html, figure, lanes.len()),
        Vertical::Scale(vertical) => {
            let y = |value: f64| short((1.0 - vertical.share(value)) * SQUARE);
            html.push_str("<path class=\"grid\" d=\"");
            for (value, _) in vertical.ticks() {
                let _ = write!(html, "M0 {}H{SQUARE}", y(value));
            }
            html.push_str("\"/>\n");
            for line in &figure.lines {
                let stroke = if line.stroke == Stroke::Dashed { " dashed" } else { "" };
                let _ = write!(html, "<path class=\"line {}{stroke}\" d=\"M", line.colour.name());
                let points: Vec<String> = line.points.iter().map(|&(a, b)| format!("{} {}", x(a), y(b))).collect();
                let _ = writeln!(html, "{}\"><title>{}</title></path>", points.join("L"), escape(&line.title));
            }
            for dot in &figure.dots {
                let size = if dot.size == Size::Large { " large" } else { "" };
                let name = dot.colour.name();
                let _ = write!(html, "<path class=\"dot {name}{size}\" d=\"M{} {}h0\">", x(dot.at.0), y(dot.at.1));
                let _ = writeln!(html, "<title>{}</title></path>", escape(&dot.title));
            }
            for rule in &figure.rules {
                let _ = match rule {
                    Rule::Level(value, _) => writeln!(html, "<path class=\"rule\" d=\"M0 {}H{SQUARE}\"/>", y(*value)),
                    Rule::Upright(value, _) => writeln!(html, "<path class=\"rule\" d=\"M{} 0V{SQUARE}\"/>", x(*value)),
                };
            }
        }
    }
    html.push_str("</svg>");
}

fn bars(html: &mut String, figure: &Figure, lanes: usize) {
    let pixel = SQUARE / (lanes * LANE).max(1) as f64;
    let scale = &figure.horizontal;
    for bar in &figure.bars {
        let from = scale.share(bar.from) * SQUARE;
        let width = (scale.share(bar.to) * SQUARE - from).max(0.05);
        let (above, height) = bar.rise((LANE - 4) as f64);
        let top = short(((bar.lane * LANE + 2) as f64 + above) * pixel);
        let height = short(height * pixel);
        let name = bar.colour.name();
        let tone = if bar.tone == Tone::Soft { " soft" } else { "" };
        let place = format!("x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{height}\"", short(from), short(width));
        let _ = writeln!(html, "<rect class=\"{name}{tone}\" {place}><title>{}</title></rect>", escape(&bar.title));
    }
}

fn rule_labels(html: &mut String, figure: &Figure) {
    for rule in &figure.rules {
        let (style, label) = match (rule, &figure.vertical) {
            (Rule::Level(value, label), Vertical::Scale(scale)) => {
                (format!("right:4px;bottom:{}%", short(scale.share(*value) * 100.0)), label)
            }
            (Rule::Level(..), Vertical::Lanes(_)) => continue,
            (Rule::Upright(value, label), Vertical::Scale(_) | Vertical::Lanes(_)) => {
                (format!("top:2px;right:{}%", short((1.0 - figure.horizontal.share(*value)) * 100.0)), label)
            }
        };
        let _ = write!(html, "<em style=\"{style}\">{}</em>", escape(label));
    }
}

/// Behind this part of the axis, labels stand to the left of their dots.
pub(super) const TURN: f64 = 0.75;

fn dot_labels(html: &mut String, figure: &Figure) {
    let Vertical::Scale(vertical) = &figure.vertical else { return };
    for dot in figure.dots.iter().filter(|dot| !dot.label.is_empty()) {
        let across = figure.horizontal.share(dot.at.0);
        let side = if across > TURN {
            format!("right:{}%;margin-right:9px", short((1.0 - across) * 100.0))
        } else {
            format!("left:{}%;margin-left:9px", short(across * 100.0))
        };
        let top = short((1.0 - vertical.share(dot.at.1)) * 100.0);
        let _ = write!(html, "<i class=\"mark\" style=\"top:{top}%;{side}\">{}</i>", escape(&dot.label));
    }
}
