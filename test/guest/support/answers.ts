/** Lists that a guest's own bpftool printed, for tests on its memory. */
import { test } from "bun:test";
import { type GuestState, openGuest } from "../../../src/guest/guest.ts";
import { type Json, stringify } from "../../../src/report/json.ts";
import { parseExact } from "../../live/bpftool.ts";
import { type LabImage, withoutBpftools } from "../images.ts";

export type Printed = Readonly<Record<string, unknown>>;

/** A test with bpftool's list; it is skipped if the guest gave none. */
export function testAgainst(
  image: LabImage,
  file: string,
  title: string,
  body: (theirs: readonly Printed[]) => void,
): void {
  const text = image.answer(file)?.trim() ?? "";
  test.skipIf(text === "")(title, () => body(withoutBpftools(parseExact(text) as Printed[])));
}

export const printed = (values: readonly Json[]): readonly Printed[] =>
  values.map((value) => parseExact(stringify(value)) as Printed);

export const open = (image: LabImage): GuestState => openGuest({ memory: image.memory });
