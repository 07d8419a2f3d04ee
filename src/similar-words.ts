/** Returns suggestions for a mistyped word: at most three of the candidates, the most similar first. */
export function similarWords(word: string, candidates: readonly string[]): string[] {
  const maxDistance = Math.max(2, Math.floor(word.length / 3));
  return (
    candidates
      .map((candidate) => ({ candidate, distance: distanceOf(word, candidate) }))
      // A short word with another first letter is a different word: `net` is not a typo of `get`.
      .filter(({ candidate }) => word.length > 3 || candidate[0] === word[0] || candidate.includes(word))
      .filter(
        ({ candidate, distance }) =>
          distance <= maxDistance || (word.length >= 3 && candidate.includes(word)),
      )
      .sort((a, b) => a.distance - b.distance)
      .slice(0, 3)
      .map(({ candidate }) => candidate)
  );
}

/** Returns the Levenshtein distance, computed row by row. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
