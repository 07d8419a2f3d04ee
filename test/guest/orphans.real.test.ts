/** The lab's frozen machines have no map or program without a holder, because their loaders hold everything. */
import { expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { mapHolders } from "../../src/report/map-holders.ts";
import { findOrphans } from "../../src/report/orphans.ts";
import { progPlaces } from "../../src/report/prog-places.ts";
import { eachMachine, labImages } from "./images.ts";

eachMachine(await labImages(), (image) => {
  test.skipIf(image.answer("net-show.json") === undefined)(
    "every kind of holder can be read, and every map and program has one",
    () => {
      using guest = openGuest({ memory: image.memory });
      expect([mapHolders(guest).problems, progPlaces(guest).problems]).toEqual([[], []]);
      expect(findOrphans(guest)).toEqual([]);
    },
  );
});
