/** The lab's frozen machines have nothing that is forgotten: their loaders hold everything. */
import { expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { mapHolders } from "../../src/report/map-holders.ts";
import { findOrphans } from "../../src/report/orphans.ts";
import { progPlaces } from "../../src/report/prog-places.ts";
import { eachMachine, labImages } from "./images.ts";

eachMachine(await labImages(), (image) => {
  test.skipIf(image.answer("net-show.json") === undefined)(
    "every holder can be asked, and no map or program is held by nobody",
    () => {
      using guest = openGuest({ memory: image.memory });
      expect([mapHolders(guest).untold, progPlaces(guest).untold]).toEqual([[], []]);
      expect(findOrphans(guest)).toEqual([]);
    },
  );
});
