// The cases that only Node for Windows can run, by the keys under which virtdisk-wine-main.ts reports them.

export const WINDOWS_ONLY_CASES = {
  readsReal: 'reads by the functions of kernel32.dll on a real handle',
  writesReal: 'writes by the functions of kernel32.dll on a real handle',
  failsReal: 'gets the code of a failed read from the very call',
  switchesReal: 'switches a privilege on by the functions of advapi32.dll',
  refusesByWine: 'refuses by a typed error what the virtdisk.dll of Wine does not offer',
} as const;
