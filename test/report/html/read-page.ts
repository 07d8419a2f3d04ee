/** Reads a page with the engine's HTML parser (lol-html): its elements, and the text of each object. */

export interface ReadPage {
  /** Each element as its name and the names of its attributes, in document order. */
  readonly elements: readonly string[];
  /** Text of each folded row, by the row's id ("map-15"), and of each section, by the id of its title. */
  readonly texts: ReadonlyMap<string, string>;
}

export async function readPage(page: string): Promise<ReadPage> {
  const elements: string[] = [];
  const texts = new Map<string, string>();
  let section = { id: "", text: "" };
  let item: typeof section | undefined;
  const rewriter = new HTMLRewriter()
    .on("*", {
      element(element) {
        elements.push([element.tagName, ...[...element.attributes].map(([name]) => name)].join(" "));
      },
    })
    .on("h2", {
      element(element) {
        section = { id: element.getAttribute("id") ?? "", text: "" };
      },
    })
    .on("section", {
      element(element) {
        element.onEndTag(() => void texts.set(section.id, section.text));
      },
    })
    .on("details.item", {
      element(element) {
        item = { id: "", text: "" };
        element.onEndTag(() => {
          if (item !== undefined) texts.set(item.id, item.text);
          item = undefined;
        });
      },
    })
    .on(".body", {
      element(element) {
        if (item !== undefined) item.id = element.getAttribute("id") ?? "";
      },
    })
    // Separates table cells by a blank.
    .on("td,th,tr,span,p,summary,div,b,small,a,h3", {
      element() {
        section.text += " ";
        if (item !== undefined) item.text += " ";
      },
    })
    .on("pre,code", {
      element() {
        section.text += "\n";
        if (item !== undefined) item.text += "\n";
      },
    })
    .on("section", {
      text({ text }) {
        section.text += text;
        if (item !== undefined) item.text += text;
      },
    });
  await rewriter.transform(new Response(page)).text();
  for (const [id, text] of texts) texts.set(id, decoded(text));
  return { elements, texts };
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', "#39": "'" };
const decoded = (text: string): string =>
  text.replace(/&([^;\s]{1,8});/g, (whole, name: string) => ENTITIES[name] ?? whole);

/** Returns the bytes of hex dumps in the text, as hexadecimal. A dump has lines of an offset and bytes, `*` for lines equal to the one before, and the size last. */
export function dumpsIn(text: string): string[] {
  const found: string[] = [];
  let lines: string[] = [];
  for (const line of text.split("\n")) {
    const [, offset, bytes] = /(?:^|\s)([0-9a-f]{4,}) {2}((?:[0-9a-f]{2,16} ?)+)$/.exec(line) ?? [];
    if (offset !== undefined && bytes !== undefined) {
      const at = Number.parseInt(offset, 16);
      if (at === 0) lines = [];
      fill(lines, at);
      lines.push(bytes.replaceAll(" ", ""));
    } else {
      const [, size] = /^([0-9a-f]{4,})\b/.exec(line) ?? [];
      if (size === undefined || lines.length === 0) continue;
      const whole = Number.parseInt(size, 16) * 2;
      fill(lines, Number.parseInt(size, 16));
      found.push(lines.join("").slice(0, whole));
      lines = [];
    }
  }
  return found;
}

function fill(lines: string[], to: number): void {
  const last = lines.at(-1);
  for (let at = lines.join("").length / 2; last !== undefined && at < to; at += last.length / 2)
    lines.push(last);
}
