/** Features and delegation of the kernels of the lab's frozen machines, compared with bpftool's answers in them. */
import { expect, test } from "bun:test";
import { readFeatures } from "../../src/guest/bpf/features.ts";
import { listTokenMounts } from "../../src/guest/bpf/tokens.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { featuresJson } from "../../src/report/feature.ts";
import { stringify } from "../../src/report/json.ts";
import { tokenJson } from "../../src/report/token.ts";
import { MapType } from "../../src/uapi/names.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, labImages } from "./images.ts";

eachMachine([...(await labImages()), ...capturedImages()], (image) => {
  test.skipIf(image.answer("feature-probe.json") === undefined)(
    "sysctls, program types and map types are equal to those of bpftool's probes",
    () => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      type Probed = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
      const theirs = JSON.parse(image.answer("feature-probe.json")!) as Probed;
      const features = readFeatures(kernel);
      const mine = JSON.parse(stringify(featuresJson(features))) as Probed;
      // Before 6.9 bpftool's probe is refused for a field that these kernels do not have.
      const { have_struct_ops_map_type: told, ...mapTypes } = mine["map_types"]!;
      const { have_struct_ops_map_type: tried, ...theirMapTypes } = theirs["map_types"]!;
      expect([told, mapTypes]).toEqual([true, theirMapTypes]);
      if (features.mapTypes[MapType.arena] === true) expect(tried).toBe(true);
      for (const section of ["system_config", "syscall_config", "program_types"])
        expect([section, mine[section]]).toEqual([section, theirs[section]]);
      const callable = new Set(Object.values(theirs["helpers"]!).flat());
      const known = mine["kernel_helpers"] as unknown as readonly string[];
      expect([...callable].filter((name) => !known.includes(name as string))).toEqual([]);
      expect(features.problems.join()).toContain("CONFIG_IKCONFIG");
    },
  );

  test.skipIf(image.answer("token-list.json") === undefined)(
    "tokens' file systems are equal to bpftool's",
    () => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const problems: string[] = [];
      const mounts = listTokenMounts(kernel, (sentence) => problems.push(sentence));
      expect(stringify(mounts.map(tokenJson))).toBe(image.answer("token-list.json")!.trim());
      expect(problems).toEqual([]);
    },
  );
});
