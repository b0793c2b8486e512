"""The HTML template of the report: its layout and style, without content.

The page is one file with its styles, figures and audio; it loads nothing from anywhere else.
"""

from jinja2 import Environment, StrictUndefined

STYLE = """
:root { --ink:#1d2330; --grey:#69707d; --pale:#e7e9ee; --wash:#f6f7fa; --blue:#0072b2;
  --orange:#c07c00; --green:#00795a; --red:#b44a00; }
* { box-sizing:border-box }
html { scroll-behavior:smooth }
body { margin:0; font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
  color:var(--ink); background:#fff }
header { background:linear-gradient(120deg,#10233f,#0a5a8c 70%,#0d8a78); color:#fff;
  padding:44px 24px 36px }
header > div, main, nav > div { max-width:1180px; margin:0 auto }
header h1 { margin:0 0 6px; font-size:32px; letter-spacing:-.4px; line-height:1.2 }
header p { margin:0; max-width:760px; color:#d6e6f2 }
nav { position:sticky; top:0; background:rgba(255,255,255,.95); border-bottom:1px solid var(--pale);
  z-index:5 }
nav > div { padding:9px 24px; display:flex; gap:20px; overflow-x:auto; font-size:13.5px }
nav a { color:var(--grey); text-decoration:none; white-space:nowrap }
nav a:hover { color:var(--blue) }
main { padding:8px 24px 60px }
section { padding-top:30px; scroll-margin-top:28px }
h2 { font-size:22px; margin:0 0 4px; letter-spacing:-.2px } h3 { font-size:16px; margin:22px 0 4px }
p, li { max-width:820px } .note { color:var(--grey); font-size:13.5px }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(205px,1fr)); gap:14px;
  margin:-24px 0 6px; position:relative }
.card { background:#fff; border:1px solid var(--pale); border-radius:10px; padding:14px 16px;
  box-shadow:0 3px 14px rgba(20,35,60,.08) }
.card b { display:block; font-size:27px; line-height:1.25; font-variant-numeric:tabular-nums }
.card span { color:var(--grey); font-size:13px; display:block }
.scroll { overflow-x:auto; border:1px solid var(--pale); border-radius:10px; margin:12px 0 8px }
table { border-collapse:collapse; width:100%; font-size:13.5px; font-variant-numeric:tabular-nums }
th, td { padding:7px 11px; text-align:right; white-space:nowrap;
  border-bottom:1px solid var(--pale) }
th:first-child, td:first-child { text-align:left; position:sticky; left:0; background:#fff }
td.wrap { white-space:normal; text-align:left; min-width:260px }
td.heard { text-align:left; white-space:normal; min-width:210px }
td.heard audio { display:block; width:200px; height:30px }
td.left, th.left { text-align:left }
thead th { font-weight:600; color:var(--grey); background:var(--wash); vertical-align:bottom;
  white-space:normal; min-width:74px; font-size:12.5px }
thead th:first-child { background:var(--wash) } tbody tr:last-child td { border-bottom:0 }
tr.group td { background:var(--wash); color:var(--grey); font-size:12px; text-align:left;
  text-transform:uppercase; letter-spacing:.05em; padding:5px 11px }
tr.published td { color:var(--grey); font-style:italic }
tr.first td { font-weight:600 }
td small { display:block; color:var(--grey); font-size:11px; font-weight:400; font-style:normal }
td.best { color:var(--blue); font-weight:700 } td.none { color:#b8bdc7 }
.bar { display:inline-block; width:90px; height:7px; border-radius:4px; background:var(--pale);
  vertical-align:middle; margin-right:7px; overflow:hidden }
.bar i { display:block; height:100%; background:var(--green) }
.figures { display:grid; grid-template-columns:repeat(auto-fit,minmax(430px,1fr)); gap:18px;
  align-items:start }
figure { margin:0; border:1px solid var(--pale); border-radius:10px; padding:14px; background:#fff }
figure.wide { grid-column:1/-1 }
figure svg { width:100%; height:auto; display:block }
figure h4 { margin:0 0 8px; font-size:14.5px }
.drawing { overflow-x:auto }
figcaption { color:var(--grey); font-size:13px; margin-top:8px }
.gallery { display:grid; grid-template-columns:repeat(auto-fit,minmax(520px,1fr)); gap:18px }
.clip h4 { display:flex; justify-content:space-between; gap:8px }
.clip h4 span { font-weight:400; color:var(--grey) }
.clip audio { width:100%; height:36px; margin-top:8px }
.pill { border-radius:20px; padding:0 9px; font-size:12px; color:#fff; background:var(--green) }
.pill.worst { background:var(--red) }
.sounding { position:relative }
.playhead { position:absolute; top:0; bottom:0; width:2px; background:#e5007a; display:none;
  pointer-events:none }
footer { border-top:1px solid var(--pale); color:var(--grey); font-size:13px; padding:20px 24px }
@media (max-width:600px) { .figures, .gallery { grid-template-columns:minmax(0,1fr) }
  .cards { grid-template-columns:repeat(2,minmax(0,1fr)) } .card b { font-size:22px }
  .sounding { width:560px } .wide svg { width:760px } }
@media print { nav { position:static } }
"""

# A line runs over the heat map while its clip plays. `data-left` and `data-right` say where the
# axes of the figure begin and end, as shares of its width.
SCRIPT = """
for (const clip of document.querySelectorAll('.clip')) {
  const audio = clip.querySelector('audio'), line = clip.querySelector('.playhead');
  const left = Number(clip.dataset.left), right = Number(clip.dataset.right);
  audio.addEventListener('loadedmetadata', () => { clip.dataset.seconds = audio.duration; });
  const move = () => {
    const share = audio.currentTime / audio.duration;
    line.style.left = 100 * (left + (right - left) * share) + '%';
    line.style.display = 'block';
    if (!audio.paused) requestAnimationFrame(move);
  };
  audio.addEventListener('play', move);
  audio.addEventListener('seeked', move);
  if (audio.readyState > 0) clip.dataset.seconds = audio.duration;
}
"""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" href="data:,"><title>{{ title }}</title>
<style>{{ style|safe }}</style>
</head>
<body>
<header><div><h1>{{ title }}</h1><p>{{ lead }}</p></div></header>
<nav><div>
{%- for section in sections %}<a href="#{{ section.id }}">{{ section.title }}</a>{% endfor -%}
</div></nav>
<main>
<section class="cards">
{%- for card in cards %}
<div class="card"><span>{{ card.title }}</span><b>{{ card.value }}</b><span>{{ card.note }}</span></div>
{%- endfor %}
</section>
{%- for section in sections %}
<section id="{{ section.id }}">
<h2>{{ section.title }}</h2>
{%- for text in section.texts %}
<p>{{ text }}</p>
{%- endfor %}
{%- for table in section.tables %}
{% if table.title %}<h3>{{ table.title }}</h3>{% endif %}
<div class="scroll"><table>
<thead><tr>{% for name in table.columns %}<th{% if table.left %} class="left"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in table.rows %}
{%- if row.group %}
<tr class="group"><td colspan="{{ table.columns|length }}">{{ row.group }}</td></tr>
{%- else %}
<tr class="{{ row.kind }}">{% for cell in row.cells -%}
<td class="{{ cell.kind }}"{% if cell.why %} title="{{ cell.why }}"{% endif %}>
{%- if cell.share is not none %}<span class="bar"><i style="width:{{ cell.share }}%"></i></span>{% endif -%}
{% if cell.audio %}<audio controls preload="none" src="{{ cell.audio }}"></audio>{% endif -%}
{{ cell.text }}{% if cell.small %}<small>{{ cell.small }}</small>{% endif %}</td>
{%- endfor %}</tr>
{%- endif %}
{%- endfor %}
</tbody></table></div>
{%- for note in table.notes %}
<p class="note">{{ note }}</p>
{%- endfor %}
{%- endfor %}
{%- if section.figures %}
<div class="figures">
{%- for figure in section.figures %}
<figure{% if figure.is_wide %} class="wide"{% endif %}><h4>{{ figure.title }}</h4><div class="drawing">{{ figure.svg|safe }}</div><figcaption>{{ figure.caption }}</figcaption></figure>
{%- endfor %}
</div>
{%- endif %}
{%- if section.clips %}
<div class="gallery">
{%- for clip in section.clips %}
<figure class="clip" data-left="{{ clip.left }}" data-right="{{ clip.right }}">
<h4>{{ clip.title }} <span>AUROC {{ clip.value }} <i class="pill {{ clip.kind }}">{{ clip.kind }}</i></span></h4>
<div class="drawing"><div class="sounding">{{ clip.svg|safe }}<div class="playhead"></div></div></div>
<audio controls preload="metadata" src="{{ clip.audio }}"></audio>
<figcaption>{{ clip.caption }}</figcaption>
</figure>
{%- endfor %}
</div>
{%- endif %}
</section>
{%- endfor %}
</main>
<footer>{{ foot }}</footer>
<script>{{ script|safe }}</script>
</body>
</html>
"""  # noqa: E501


def render(**content) -> str:
    """Render the page; text is escaped, only figures are inserted as they are.

    Raises jinja2.UndefinedError for content that the template needs and that was not given.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    page = environment.from_string(TEMPLATE)
    return page.render(**content, style=STYLE, script=SCRIPT)
