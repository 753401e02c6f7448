// Patterns of VM names: `*` is any text, `?` any character, everything else itself, whatever the
// case. Linear in the text for any pattern: no regular expression is built from what people write.

export function matchesPattern(pattern: string, name: string): boolean {
  // by code points, so that `?` is one character wherever it lies
  const wanted = Array.from(pattern.toLowerCase());
  const text = Array.from(name.toLowerCase());
  let p = 0;
  let t = 0;
  // where the last star stood, and up to where of the text it has swallowed
  let starAt = -1;
  let swallowed = 0;
  while (t < text.length) {
    if (p < wanted.length && wanted[p] === '*') {
      starAt = p++;
      swallowed = t;
    } else if (p < wanted.length && (wanted[p] === '?' || wanted[p] === text[t])) {
      p++;
      t++;
    } else if (starAt >= 0) {
      p = starAt + 1;
      t = ++swallowed;
    } else {
      return false;
    }
  }
  while (wanted[p] === '*') p++;
  return p === wanted.length;
}
