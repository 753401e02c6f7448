// Who may read and change a file on Windows, out of its security descriptor in text (SDDL: MS-DTYP § 2.5.1). Pure. What
// cannot be read for certain counts as exposed: it is about files with keys.
//
//   O:BAG:SYD:PAI(A;;FA;;;SY)(A;OICIIO;FR;;;BU)     owner, group, access list: its flags, and an entry in each bracket
//                 kind;flags;rights;object;inherited object;account

export interface WindowsAccess {
  /** Someone else than this account, the system and administrators may read it or change it. */
  readonly isExposed: boolean;
  readonly isChangeableByOthers: boolean;
  /** The owner is neither this account nor the system nor an administrator. */
  readonly isOwnedByAnother: boolean;
}

/** The system, administrators of the host and of the domain; what CREATOR OWNER stands for is the owner. */
const TRUSTED = new Set([
  'SY',
  'BA',
  'LA',
  'DA',
  'EA',
  'CO',
  'OW',
  'S-1-3-4',
  'S-1-5-18',
  'S-1-5-32-544',
]);
/** TrustedInstaller, the owner of files that Windows brings. */
const TRUSTED_INSTALLER = 'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464';

const READ_DATA = 0x1;
/** Write, append, write attributes' data, delete a child, delete, change the list, take the file over. */
const CHANGE = 0x2 | 0x4 | 0x10 | 0x40 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x1000_0000 | 0x4000_0000;
const READ = READ_DATA | 0x8000_0000 | 0x1000_0000 | 0x2000_0000;

const RIGHTS: Readonly<Record<string, number>> = {
  FA: 0x1f_01ff,
  FR: 0x12_0089,
  FW: 0x12_0116,
  FX: 0x12_00a0,
  GA: 0x1000_0000,
  GX: 0x2000_0000,
  GW: 0x4000_0000,
  GR: 0x8000_0000,
  RC: 0x2_0000,
  SD: 0x1_0000,
  WD: 0x4_0000,
  WO: 0x8_0000,
  CC: 0x1,
  DC: 0x2,
  LC: 0x4,
  SW: 0x8,
  RP: 0x10,
  WP: 0x20,
  DT: 0x40,
  LO: 0x80,
  CR: 0x100,
};
const ALL_RIGHTS = 0x1f_01ff;

/** `account`: the SID of this process, undefined when it is not known. */
export function accessOf(sddl: string, account: string | undefined): WindowsAccess {
  const owner = /^O:(S-[\d-]+|[A-Z]{2})/.exec(sddl)?.[1];
  const isTrusted = (who: string): boolean =>
    TRUSTED.has(who) || who === TRUSTED_INSTALLER || who === account;
  const given = rightsOfOthers(sddl, isTrusted);
  // whatever the list says, an owner may write another one
  const isOwnedByAnother = owner === undefined || !isTrusted(owner);
  return {
    isExposed: isOwnedByAnother || (given & (READ | CHANGE)) !== 0,
    isChangeableByOthers: isOwnedByAnother || (given & CHANGE) !== 0,
    isOwnedByAnother,
  };
}

/** All rights that entries give to accounts that are no friends. Entries that deny are left out: they give nothing. */
function rightsOfOthers(sddl: string, isFriend: (who: string) => boolean): number {
  const list = /D:[A-Z_]*((?:\([^()]*\))*)(?:S:.*)?$/.exec(sddl);
  // no list at all means that everybody may do everything
  if (list === null || sddl.includes('NO_ACCESS_CONTROL')) return ALL_RIGHTS;
  let given = 0;
  for (const [, entry = ''] of (list[1] ?? '').matchAll(/\(([^()]*)\)/g)) {
    const [kind = '', flags = '', rights = '', , , who = ''] = entry.split(';');
    const isInheritOnly = /^(?:..)*IO/.test(flags);
    if (kind === 'D' || isInheritOnly || isFriend(who)) continue;
    given |= rightsIn(rights);
  }
  return given;
}

function rightsIn(text: string): number {
  if (/^0x[0-9a-f]{1,8}$/i.test(text)) return Number(text);
  const words = text.match(/../g) ?? [];
  return words.reduce((all, word) => all | (RIGHTS[word] ?? ALL_RIGHTS), 0);
}
