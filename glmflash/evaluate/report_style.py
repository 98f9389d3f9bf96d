"""How a report looks → one style sheet: light and dark, for wide screens and telephones, loading nothing."""

__all__ = ["STYLE"]


def __dir__() -> list[str]:
    return __all__


#: Colours are named by what they mean; marks of plots take theirs from here too.
STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1a1d21; --soft: #666e7a;
  --line: #e3e6ea; --mark: #2563eb; --base: #1a1d21; --good: #14803c; --bad: #c8371b; --tint: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --page: #101317; --card: #181c22; --ink: #e7eaee;
  --soft: #98a2af; --line: #2c333c; --mark: #79a8ff; --base: #e7eaee; --good: #55cf82; --bad: #ff8465;
  --tint: #4f86f7; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC",
  "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 36px 24px 56px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.015em; }
h2 { font-size: 16px; margin: 0 0 2px; }
p { margin: 0; } .soft { color: var(--soft); } .small { font-size: 13px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px;
  margin-top: 16px; min-width: 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 16px; }
.wide { overflow-x: auto; margin: 10px -20px -8px; padding: 0 20px 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 7px 8px; text-align: right; border-top: 1px solid var(--line); }
thead th { border: 0; font-weight: 500; font-size: 13px; color: var(--soft); vertical-align: bottom; }
tr > :first-child { text-align: left; padding-left: 0; font-weight: 600; }
tr > :last-child { padding-right: 0; }
thead tr > :first-child { font-weight: 500; }
td small, .value small { color: var(--soft); font-size: 12px; font-weight: 400; display: block;
  line-height: 1.3; white-space: pre; }
.good { color: var(--good); } .bad { color: var(--bad); }
.heat { table-layout: fixed; min-width: 560px; }
.heat th:first-child { width: 150px; }
.heat td + td, .heat tr > td:last-child { padding: 7px 4px; }
.heat td + td { border: 2px solid var(--card); text-align: center; border-radius: 6px; }
.heat th + th { text-align: center; }
.plot { display: grid; grid-template-columns: minmax(56px, max-content) 1fr max-content; column-gap: 14px;
  align-items: center; margin-top: 12px; }
.plot .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 130px;
  font-weight: 600; font-size: 14px; }
.plot .value { text-align: right; font-variant-numeric: tabular-nums; font-size: 14px; }
.plot svg { display: block; width: 100%; height: 38px; overflow: visible; }
.plot svg.axis { height: 20px; } svg text { fill: var(--soft); font-size: 12px; }
.key { display: flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 8px; }
.key svg { width: 14px; height: 10px; vertical-align: baseline; margin-right: 5px; }
article { display: grid; grid-template-columns: 230px 1fr; gap: 6px 24px; padding: 20px 0;
  border-top: 1px solid var(--line); }
article:first-of-type { border-top: 0; }
.picture { position: relative; width: fit-content; margin: 3px 0 10px; line-height: 0; border-radius: 6px;
  overflow: hidden; border: 1px solid var(--line); }
.picture img { display: block; max-width: 228px; max-height: 320px; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.none { padding: 34px 20px; border: 1px dashed var(--line); border-radius: 6px; text-align: center; }
.ask + .ask { margin-top: 18px; }
.ask b { overflow-wrap: anywhere; white-space: pre-wrap; }
.tag { font-size: 12px; color: var(--soft); border: 1px solid var(--line); border-radius: 99px;
  padding: 1px 8px; margin-left: 8px; white-space: nowrap; }
dl { display: grid; grid-template-columns: minmax(80px, 200px) 1fr; gap: 3px 16px; margin: 6px 0 0; }
dt { color: var(--soft); font-size: 13px; line-height: 22px; overflow-wrap: anywhere; }
dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 11em; overflow-y: auto; }
dd.good::before { content: "✓ "; } dd.bad::before { content: "✗ "; }
ul { margin: 8px 0 0; padding-left: 20px; } li { margin-top: 3px; }
footer { margin-top: 22px; max-width: 78ch; }
@media (max-width: 860px) { .pair { grid-template-columns: 1fr; } }
@media (max-width: 620px) { main { padding: 22px 12px 40px; } section { padding: 16px 14px; }
  .wide { margin: 10px -14px -8px; padding: 0 14px 8px; } h1 { font-size: 22px; }
  article { grid-template-columns: 1fr; } .plot { column-gap: 10px; } .plot .name { max-width: 84px; }
  dl { grid-template-columns: 1fr; gap: 0; } dt { margin-top: 6px; } }
@media print { section, article { break-inside: avoid; } body { background: none; } }
"""
