/** Captures with damaged cgroups, open files, pins, maps and programs: every read ends soon, with a result or a KtstrError. */
import { afterAll, describe, expect } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { devNull, tmpdir } from "node:os";
import { join } from "node:path";
import { PLAIN } from "../../src/commands/terminal.ts";
import { captureGuest } from "../../src/guest/capture/capture.ts";
import { type GuestState, openGuest } from "../../src/guest/guest.ts";
import { featuresJson } from "../../src/report/feature.ts";
import { buildInspection } from "../../src/report/inspection.ts";
import { inspectionJson } from "../../src/report/inspection-json.ts";
import { writeInspection } from "../../src/report/inspection-text.ts";
import { stringify } from "../../src/report/json.ts";
import { mapHolders } from "../../src/report/map-holders.ts";
import { netfilterLinks, networkJson, networkText } from "../../src/report/net.ts";
import { Output } from "../../src/report/output.ts";
import { progPlaces } from "../../src/report/prog-places.ts";
import { structOpsDump } from "../../src/report/struct-ops.ts";
import { PlaceNames } from "../../src/report/symbol.ts";
import { MapType } from "../../src/uapi/names.ts";
import { labImages, testEachMachine } from "./images.ts";
import { Mutator, type Place } from "./mutate.ts";

const folder = mkdtempSync(join(tmpdir(), "ktstr-attachments-fuzz-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ROUNDS = Number(process.env["KTSTR_FUZZ_ROUNDS"] ?? 80);
/** Limits of listings in the walkers. */
const MAX_LISTED = 65_536;

const fd = openSync(devNull, "w");
afterAll(() => closeSync(fd));
const out = new Output(fd);

function askAll(guest: GuestState): void {
  for (const isEffective of [false, true])
    expect(guest.cgroups({ path: undefined, isTree: true, isEffective }).length).toBeLessThanOrEqual(
      MAX_LISTED,
    );
  expect(guest.perfAttachments().length).toBeLessThan(2 ** 24);
  const networks = guest.networks();
  expect(networks.length).toBeLessThanOrEqual(MAX_LISTED + 1);
  const netfilter = netfilterLinks(guest.links());
  for (const network of networks) {
    stringify(networkJson(guest, network, netfilter));
    networkText(guest, network, netfilter);
  }
  stringify(featuresJson(guest.features()));
  expect(guest.tokenMounts().length).toBeLessThanOrEqual(MAX_LISTED);
  for (const kind of ["map", "program", "link"] as const) guest.pinnedPaths(kind);
  mapHolders(guest);
  progPlaces(guest);
  for (const map of guest.maps()) if (map.type === MapType.struct_ops) structOpsDump(guest, map, true);
  // Elements of queues and stacks have no keys.
  for (const map of guest.maps()) if (map.keySize === 0) guest.lookup(map, new Uint8Array(0));
  const inspection = buildInspection(guest, 1);
  writeInspection(out, inspection, PLAIN, 120);
  stringify(inspectionJson(inspection));
  const names = new PlaceNames(guest);
  // The last address belongs to no function, so that the lists of modules and programs are searched for it.
  for (const address of [...functionsOf(guest), 2n ** 64n - 1n]) names.at(address);
}

/** Returns the addresses of the first programs' machine code. */
function functionsOf(guest: GuestState): bigint[] {
  const codes = guest
    .progs()
    .slice(0, 4)
    .map((prog) => guest.progCode(prog));
  return codes.flatMap((code) => (code.ok ? code.value.functionAddresses.slice(0, 4) : []));
}

function readAll(path: string): void {
  using guest = openGuest({ memory: path });
  askAll(guest);
}

const images = (await labImages()).filter(({ answer }) => answer("cgroup-tree.json") !== undefined);
/** The oldest and the newest kernel, whose dentries, mounts and cgroups have different layouts. */
const chosen = images.length < 2 ? images : [images.at(0)!, images.at(-1)!];

describe("reads of damaged captures end with a result or a KtstrError", () => {
  testEachMachine(
    chosen,
    `%s, ${ROUNDS} rounds`,
    ({ name, memory }) => {
      const path = join(folder, `${name}-fuzz.vmcore`);
      using made = captureGuest({ memory: [{ path: memory }] }, askAll);
      writeFileSync(path, Buffer.concat([...made.pieces()]));
      // These reads touch nearly all pages of the capture, so damage is placed in all of them.
      const places: Place[] = [];
      for (let offset = 4096; offset + 4096 <= statSync(path).size; offset += 4096)
        places.push({ name: "page", offset, length: 4096 });
      using mutator = new Mutator(path, places, 20_261_128);
      const outcomes = mutator.rounds(ROUNDS, () => {
        readAll(path);
        return "result";
      });
      console.log(name, outcomes);
      expect(outcomes.get("result")).toBeGreaterThan(0);
      readAll(path);
    },
    900_000,
  );
});
