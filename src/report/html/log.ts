/** The newest records of the kernel's log, folded. */
import type { KernelLog } from "../../kernel-log.ts";
import { recordLines, tornSentence } from "../log.ts";
import { countText } from "../units.ts";
import type { Section } from "./document.ts";
import { html } from "./markup.ts";

const MAX_RECORDS = 2000;
/** Level `warn` (include/linux/kern_levels.h). */
const WARN = 4;

/** `log`: the log, or the reason why it could not be read. */
export function logSection(log: KernelLog | string): Section {
  const title = "Log";
  if (typeof log === "string")
    return { id: "log", title, about: "", content: html`<p class="dim">${log}</p>` };
  const shown = log.records.slice(-MAX_RECORDS);
  const bad = shown.filter(({ level }) => level <= WARN).length;
  const torn = tornSentence(log);
  const lines = shown.map(
    (
      record,
    ) => html`<div class="item${record.level <= WARN && " bad"}">${recordLines(record).join("\n")}</div>
`,
  );
  const about = `${countText(log.records.length)} records, ${countText(bad)} of the ${countText(shown.length)} here are warnings or worse`;
  const content = html`<details class="list"><summary>the newest ${countText(shown.length)}</summary><div class="log">${lines}</div></details>${torn !== "" && html`<p class="dim">${torn}</p>`}`;
  return { id: "log", title, about, content };
}
