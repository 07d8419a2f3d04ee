/** Pairs equal objects of two snapshots. */

export interface Pairs<T> {
  readonly both: readonly (readonly [T, T])[];
  readonly onlyA: readonly T[];
  readonly onlyB: readonly T[];
}

/** Returns a text that is equal for equal objects; undefined if this identity does not apply to the object. */
export type Identity<T> = (object: T) => string | undefined;

/**
 * Pairs objects with equal identity. Objects without a partner are compared by the next identity. Several objects with one
 * identity are paired in order of ascending id.
 */
export function pairUp<T extends { readonly id: number }>(
  as: readonly T[],
  bs: readonly T[],
  identities: readonly Identity<T>[],
): Pairs<T> {
  const both: [T, T][] = [];
  const byId = (a: T, b: T): number => a.id - b.id;
  let onlyA = as.toSorted(byId);
  let onlyB = bs.toSorted(byId);
  for (const identity of identities) {
    const waiting = new Map<string, T[]>();
    const left = new Set(onlyA);
    for (const a of onlyA) {
      const key = identity(a);
      if (key === undefined) continue;
      const queue = waiting.get(key);
      if (queue === undefined) waiting.set(key, [a]);
      else queue.push(a);
    }
    for (const queue of waiting.values()) queue.reverse(); // `pop` then takes the first
    onlyB = onlyB.filter((b) => {
      const key = identity(b);
      const a = key === undefined ? undefined : waiting.get(key)?.pop();
      if (a === undefined) return true;
      both.push([a, b]);
      left.delete(a);
      return false;
    });
    onlyA = onlyA.filter((a) => left.has(a));
  }
  return { both, onlyA, onlyB };
}
