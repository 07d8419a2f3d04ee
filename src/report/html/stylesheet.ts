/** The page's style sheet: dense rows in one column, with the reader's fonts and colours. */
export const STYLE: string = `
:root{color-scheme:light dark;--fg:#1b1d1f;--dim:#646b73;--bg:#fff;--soft:#f4f5f6;--line:#dfe2e5;--link:#0550ae;
--bar:#5b8def;--alarm:#b42318;--alarmbg:#fdf0ee;--mark:#fff3c4;--warn:#d29922}
@media(prefers-color-scheme:dark){:root{--fg:#dcdfe3;--dim:#8f98a3;--bg:#15181b;--soft:#1d2125;--line:#30363c;
--link:#79b0ff;--bar:#4e7fdc;--alarm:#ff8a7a;--alarmbg:#2d1a18;--mark:#443a12}}
*{box-sizing:border-box}
html{background:var(--bg);color:var(--fg);font:14px/1.45 system-ui,sans-serif;scroll-padding-top:3.4em}
body{margin:0 auto;max-width:1280px;padding:0 1.2em 4em}
code,pre,summary,table,.facts,.row,.log{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:12.5px}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
section{content-visibility:auto;contain-intrinsic-size:auto 800px;margin:0 -1.2em;padding:0 1.2em}
header{padding-top:1em}
h1{font-size:1.25em;margin:0}
h1,h2,h3,summary,.facts{overflow-wrap:anywhere}
h2{font-size:1.05em;margin:2em 0 .4em;padding-bottom:.2em;border-bottom:1px solid var(--line)}
h3{font-size:1em;margin:1.2em 0 .3em}
h2 small,h3 small,.dim,small{color:var(--dim);font-weight:400;font-size:.92em}
p{margin:.3em 0;overflow-wrap:anywhere}
nav{position:sticky;top:0;z-index:1;background:var(--bg);border-bottom:1px solid var(--line);padding:.5em 1.2em;margin:.6em -1.2em 0;
display:flex;flex-wrap:wrap;gap:.2em 1.1em;align-items:baseline}
nav input{margin-left:auto;width:22em;max-width:100%;font:inherit;font-size:13px;color:inherit;background:var(--soft);
border:1px solid var(--line);border-radius:4px;padding:.2em .6em}
nav output{color:var(--dim);font-size:12px;min-width:6em}
pre{margin:.2em 0;white-space:pre-wrap;overflow-wrap:anywhere}
table{border-collapse:collapse;margin:.2em 0}
th{color:var(--dim);font-weight:400;text-align:left}
th,td{padding:.1em 1.4em .1em 0;vertical-align:top}
td{overflow-wrap:anywhere}
td pre{margin:0}
td.dim{font-size:inherit}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
.finding{background:var(--alarmbg);border-left:3px solid var(--alarm);padding:.35em .8em;margin:.4em 0}
.finding p{margin:.1em 0}
.warning{border-left:3px solid var(--warn);padding-left:.8em}
.alarm{color:var(--alarm)}
.facts{margin:.2em 0;color:var(--dim)}
.facts span{display:inline-block;max-width:100%;margin-right:1.1em}
.facts b{font-weight:400;color:var(--fg)}
summary{cursor:pointer;list-style-position:outside}
details{margin-left:1em}
.item>summary{border-bottom:1px solid var(--line);padding:.14em 0}
.item>summary:hover{background:var(--soft)}
.item[open]>summary{background:var(--soft)}
.item:has(:target)>summary{background:var(--mark)}
.body{padding:.3em 0 .8em .6em;scroll-margin-top:5.5em}
.row{display:inline-grid;width:calc(100% - 1.2em);gap:0 1em;vertical-align:top;font-variant-numeric:tabular-nums}
.row>span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.row .wrap{white-space:normal;overflow-wrap:anywhere}
.head{color:var(--dim);margin-left:14px;width:calc(100% - 14px - 1.2em)}
.progs .row{grid-template-columns:3.5em minmax(9em,3fr) minmax(7em,2fr) 10em 4em 8em 6.5em 5.5em}
.maps .row{grid-template-columns:3.5em minmax(9em,3fr) minmax(8em,2fr) 12em 6em 11em 6em}
.links .row{grid-template-columns:3.5em 9em minmax(10em,1fr) minmax(10em,2fr)}
.progs.still .row{grid-template-columns:3.5em minmax(9em,3fr) minmax(7em,2fr) 8em 4em}
.bar{width:100%;height:9px;background:var(--soft);border-radius:2px;vertical-align:middle}
.bar rect{fill:var(--bar)}
td .bar{width:8em}
.spark{display:block}.spark polyline{fill:none;stroke:var(--bar);stroke-width:1}
.log div{white-space:pre-wrap;overflow-wrap:anywhere}
.log .bad{color:var(--alarm)}
.chart{margin:.6em 0}
[hidden]{display:none!important}
@media(max-width:800px){body{padding:0 .7em 3em}section{margin:0 -.7em;padding:0 .7em}nav{margin:.6em -.7em 0;padding:.5em .7em}
.row,.progs .row,.maps .row,.links .row,.progs.still .row{display:inline-flex;flex-wrap:wrap;gap:0 .8em}
.row>span{white-space:normal;overflow-wrap:anywhere}.row .bar{width:7em}.row .n{text-align:left}.row span:empty,.row.head.head{display:none}
.progs .n:nth-child(6)::after{content:" calls"}.progs .n:nth-child(7)::after{content:" each"}
.progs .n:nth-child(8)::after{content:" misses"}.maps .n:nth-child(6)::after{content:" entries"}

nav input{margin-left:0;width:100%}.body{padding-left:0}th,td{padding-right:.8em}}
@media(max-width:800px){.rows td{white-space:nowrap}}
@media print{nav{display:none}}
`;
