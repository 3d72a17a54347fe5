//! What a page is made of: a headline, the figures that matter most, sections with plots and
//! tables, and the whole report in words at the end.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use crate::html::chart::Chart;

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Headline.
    pub title: String,
    /// One sentence below: what was measured where.
    pub lead: String,
    /// The figures that matter most: figure, what it is.
    pub cards: Vec<(String, String)>,
    /// What follows.
    pub sections: Vec<Section>,
    /// The report as it was printed.
    pub text: String,
}

/// A part of a page.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Headline.
    pub heading: String,
    /// What is seen, and what to mind about it.
    pub note: String,
    /// The plot.
    pub chart: Option<Chart>,
    /// Rows of a table, the first its head; may be empty.
    pub table: Vec<Vec<String>>,
}

const STYLE: &str = "\
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#f5f7fa;margin:0}
main{max-width:940px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:0 0 4px}
p{margin:0 0 12px;color:#52606d}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.card{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:12px 16px;flex:1 1 150px}
.card b{display:block;font-size:22px;font-weight:600}.card span{color:#52606d;font-size:13px}
section{background:#fff;border:1px solid #e4e7eb;border-radius:8px;padding:18px 20px;margin:0 0 16px}
svg{width:100%;height:auto;display:block}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:#323f4b}
.legend i{display:inline-block;width:18px;height:3px;margin:0 6px 3px 0;vertical-align:middle}
table{border-collapse:collapse;width:100%;font-size:14px;margin-top:10px}
th,td{text-align:right;padding:5px 8px;border-bottom:1px solid #e4e7eb;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}th{color:#52606d;font-weight:500}
pre{font-size:12.5px;overflow-x:auto;margin:10px 0 0}summary{cursor:pointer;color:#52606d}";

impl Page {
    /// The page as one file's content.
    pub fn html(&self) -> anyhow::Result<String> {
        let mut out = String::new();
        let title = escaped(&self.title);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title>\n<style>\n{STYLE}\n</style></head><body><main>\n\
             <h1>{title}</h1>\n<p>{}</p>\n",
            escaped(&self.lead)
        )?;
        if !self.cards.is_empty() {
            out.push_str("<div class=\"cards\">\n");
            for (figure, what) in &self.cards {
                let (figure, what) = (escaped(figure), escaped(what));
                writeln!(
                    out,
                    "<div class=\"card\"><b>{figure}</b><span>{what}</span></div>"
                )?;
            }
            out.push_str("</div>\n");
        }
        for section in &self.sections {
            section.write(&mut out)?;
        }
        if !self.text.is_empty() {
            let text = escaped(self.text.trim());
            let summary = "<details><summary>The report in words</summary>";
            writeln!(
                out,
                "<section>{summary}<pre>{text}</pre></details></section>"
            )?;
        }
        out.push_str("</main></body></html>\n");
        Ok(out)
    }
}

impl Section {
    fn write(&self, out: &mut String) -> anyhow::Result<()> {
        writeln!(out, "<section><h2>{}</h2>", escaped(&self.heading))?;
        if !self.note.is_empty() {
            writeln!(out, "<p>{}</p>", escaped(&self.note))?;
        }
        if let Some(chart) = &self.chart {
            out.push_str("<div class=\"legend\">");
            for (place, series) in chart.series.iter().enumerate() {
                let (colour, name) = (Chart::css_colour(place), escaped(&series.name));
                write!(
                    out,
                    "<span><i style=\"background:{colour}\"></i>{name}</span>"
                )?;
            }
            writeln!(out, "</div>\n{}", chart.svg()?)?;
        }
        if let Some((head, rows)) = self.table.split_first() {
            out.push_str("<table><tr>");
            for cell in head {
                write!(out, "<th>{}</th>", escaped(cell))?;
            }
            out.push_str("</tr>\n");
            for row in rows {
                out.push_str("<tr>");
                for cell in row {
                    write!(out, "<td>{}</td>", escaped(cell))?;
                }
                out.push_str("</tr>\n");
            }
            out.push_str("</table>\n");
        }
        out.push_str("</section>\n");
        Ok(())
    }
}

/// Writes a page, where a file is named.
pub fn write_page(path: Option<&Path>, page: impl FnOnce() -> Page) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let html = page().html()?;
    std::fs::write(path, html).with_context(|| format!("writing {}", path.display()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_named_cannot_become_markup() {
        let page = Page {
            title: "a <script>".to_owned(),
            sections: vec![Section {
                heading: "x & y".to_owned(),
                table: vec![vec!["\"".to_owned()], vec!["<b>".to_owned()]],
                ..Section::default()
            }],
            ..Page::default()
        };
        let html = page.html().unwrap();
        assert!(!html.contains("<script>") && !html.contains("<b>"));
        assert!(html.contains("a &lt;script&gt;") && html.contains("x &amp; y"));
        assert!(html.contains("<th>&quot;</th>") && html.contains("<td>&lt;b&gt;</td>"));
    }
}
