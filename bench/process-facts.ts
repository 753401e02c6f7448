// What /proc says about processes and the machine (proc(5)). The parsers are pure and total: text
// that is not what the kernel writes gives undefined, never a wrong figure.

/**
 * Clock ticks (user + system) of the children that a process has waited for, theirs included, from
 * /proc/PID/stat. The second field is the program's name in brackets and may itself hold blanks
 * and brackets, so fields are counted from its last bracket.
 */
export function parseChildTicks(stat: string): number | undefined {
  return sumOfFields(stat, 16, 17); // cutime, cstime
}

/** Clock ticks (user + system) of all threads of a process itself, from /proc/PID/stat. */
export function parseOwnTicks(stat: string): number | undefined {
  return sumOfFields(stat, 14, 15); // utime, stime
}

function sumOfFields(stat: string, one: number, other: number): number | undefined {
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  // behind the bracket stands field 3
  const fields = stat
    .slice(end + 1)
    .trim()
    .split(/\s+/);
  const ticks = Number(fields[one - 3] ?? Number.NaN) + Number(fields[other - 3] ?? Number.NaN);
  return Number.isInteger(ticks) && ticks >= 0 ? ticks : undefined;
}

/** Largest resident set of a process so far, in bytes, from /proc/PID/status (VmHWM). */
export function parsePeakRss(status: string): number | undefined {
  return kibibytes(status, 'VmHWM');
}

/** Process ids in /proc/PID/task/TID/children. */
export function parseChildren(children: string): number[] {
  return children
    .split(/\s+/)
    .filter((text) => /^[1-9]\d*$/.test(text))
    .map(Number);
}

/** Model of the first processor, from /proc/cpuinfo. */
export function parseProcessorModel(cpuInfo: string): string | undefined {
  return /^model name\s*:\s*(.+)$/m.exec(cpuInfo)?.[1]?.trim();
}

/** Memory of the machine in bytes, from /proc/meminfo. */
export function parseMemoryTotal(memoryInfo: string): number | undefined {
  return kibibytes(memoryInfo, 'MemTotal');
}

/** Memory that nothing uses, not even as a cache, in bytes, from /proc/meminfo. */
export function parseMemoryFree(memoryInfo: string): number | undefined {
  return kibibytes(memoryInfo, 'MemFree');
}

/**
 * File system and device under an absolute path, from /proc/self/mounts: the mount point that is
 * the longest beginning of the path. Blanks in mount points stand there as \040.
 */
export function parseMountOf(
  mounts: string,
  path: string,
): { readonly device: string; readonly fileSystem: string } | undefined {
  let best: { device: string; fileSystem: string; length: number } | undefined;
  for (const line of mounts.split('\n')) {
    const [device, escaped, fileSystem] = line.split(' ');
    if (device === undefined || escaped === undefined || fileSystem === undefined) continue;
    const point = escaped.replaceAll('\\040', ' ');
    const isAbove = point === '/' || path === point || path.startsWith(`${point}/`);
    // of two mounts on one point the later one is on top
    if (isAbove && point.length >= (best?.length ?? 0)) {
      best = { device, fileSystem, length: point.length };
    }
  }
  return best && { device: best.device, fileSystem: best.fileSystem };
}

function kibibytes(text: string, name: string): number | undefined {
  const figure = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  return figure === undefined ? undefined : Number(figure) * 1024;
}
