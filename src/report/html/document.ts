/** The HTML document around the sections. It loads nothing, and only its own scripts run. */

import { Html, html, type Part } from "./markup.ts";
import { SCRIPT } from "./script.ts";
import { STYLE } from "./stylesheet.ts";

export interface Section {
  /** Target of links in the page. */
  readonly id: string;
  readonly title: string;
  /** Text after the title. */
  readonly about: Part;
  readonly content: Html;
}

/** Additional styles and scripts of a page, such as those of charts. */
export interface Extras {
  readonly styles: readonly string[];
  readonly scripts: readonly string[];
}

export const NO_EXTRAS: Extras = { styles: [], scripts: [] };

/** Returns the whole document. `title` and `lines` come before the sections. */
export function documentOf(
  title: string,
  lines: readonly Html[],
  sections: readonly Section[],
  extras: Extras = NO_EXTRAS,
): string {
  const styles = [STYLE, ...extras.styles];
  const scripts = [...extras.scripts, SCRIPT];
  return html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy(styles, scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
${styles.map((text) => html`<style>${new Html(text)}</style>\n`)}</head>
<body>
<header>
<h1>${title}</h1>
${lines.map((line) => html`<p>${line}</p>\n`)}</header>
<nav>
${sections.map(({ id, title: name }) => html`<a href="#${id}">${name}</a>\n`)}<input id="find" type="search" placeholder="find: name, type, value  ( / )" aria-label="Find" hidden><output id="found"></output>
</nav>
<main>
${sections.map(sectionHtml)}</main>
${scripts.map((text) => html`<script>${new Html(text)}</script>\n`)}</body>
</html>
`.text;
}

function sectionHtml({ id, title, about, content }: Section): Html {
  return html`<section>
<h2 id="${id}">${title} <small>${about}</small></h2>
${content}</section>
`;
}

/** Content security policy: only the styles and scripts with these hashes are used. */
function policy(styles: readonly string[], scripts: readonly string[]): string {
  const hashes = (texts: readonly string[]): string =>
    texts.map((text) => `'sha256-${sha256(text)}'`).join(" ");
  return `default-src 'none'; style-src ${hashes(styles)}; script-src ${hashes(scripts)}; base-uri 'none'; form-action 'none'`;
}

const sha256 = (text: string): string => new Bun.CryptoHasher("sha256").update(text).digest("base64");
