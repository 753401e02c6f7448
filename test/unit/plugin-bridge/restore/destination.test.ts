import path from 'node:path';
import { expect } from 'chai';
import { destinationOf, type Wish } from '../../../../plugin-bridge/restore/destination.js';
import { DrError } from '../../../../shared/errors.js';

const NAME = 'SQL01/disks/x.vhdx';

interface Row {
  readonly is: string;
  readonly system?: 'win32' | 'posix';
  /** In front of the name; default: Where. */
  readonly prefix?: string;
  readonly wish: Partial<Wish>;
  /** The folder, `original`, or a part of the message or hint of the refusal. */
  readonly to: string | { readonly refused: string };
}

const ROWS: readonly Row[] = [
  { is: 'Where alone', wish: { where: '/r' }, to: '/r/@hyperv' },
  { is: 'Where with a slash behind it', wish: { where: '/r/' }, prefix: '/r', to: '/r/@hyperv' },
  { is: 'no Where', wish: {}, to: 'original' },
  { is: 'a Where that is the top', wish: { where: '/' }, prefix: '', to: 'original' },
  { is: 'restore_path before Where', wish: { where: '/r', restorePath: '/p' }, to: '/p/@hyperv' },
  { is: 'restore_path without Where', wish: { restorePath: '/p/' }, to: '/p/@hyperv' },
  {
    is: 'what RegexWhere made',
    wish: { regexWhere: '!^!/moved!' },
    prefix: '/moved',
    to: '/moved/@hyperv',
  },
  {
    is: 'a prefix that is not Where',
    wish: { where: '/r' },
    prefix: '/etc',
    to: { refused: 'does not begin' },
  },
  { is: 'a Where that climbs', wish: { where: '/r/../etc' }, to: { refused: '`..`' } },
  { is: 'a relative restore_path', wish: { restorePath: 'p' }, to: { refused: 'no absolute' } },
  {
    is: 'a control character',
    wish: { restorePath: '/p\u0007' },
    to: { refused: 'control character' },
  },
  {
    is: 'a folder below a root',
    wish: { where: '/srv/restore/a', roots: ['/srv/restore'] },
    to: '/srv/restore/a/@hyperv',
  },
  {
    is: 'a folder that only begins like a root',
    wish: { where: '/srv/restored', roots: ['/srv/restore'] },
    to: { refused: '/srv/restore' },
  },
  {
    is: 'restore_path outside of the roots',
    wish: { where: '/srv/restore', restorePath: '/etc', roots: ['/srv/restore'] },
    to: { refused: 'restore roots' },
  },
  { is: 'no root at all', wish: { where: '/r', roots: [] }, to: { refused: 'restore roots' } },
  {
    is: 'a drive with slashes',
    system: 'win32',
    wish: { where: 'D:/path' },
    to: 'D:\\path\\@hyperv',
  },
  {
    is: 'a drive with backslashes',
    system: 'win32',
    wish: { restorePath: 'D:\\a\\b\\' },
    to: 'D:\\a\\b\\@hyperv',
  },
  {
    is: 'an eaten backslash',
    system: 'win32',
    wish: { where: 'D:HyperV' },
    to: { refused: 'restore_path=D:/HyperV' },
  },
  {
    is: 'an eaten backslash, on any system',
    wish: { restorePath: 'D:HyperV\\vms' },
    to: { refused: 'restore_path=D:/HyperV/vms' },
  },
  {
    is: 'a folder without a drive',
    system: 'win32',
    wish: { where: '/path' },
    to: { refused: 'no absolute' },
  },
  {
    is: 'a device',
    system: 'win32',
    wish: { restorePath: '\\\\.\\PhysicalDrive0\\x' },
    to: { refused: 'it holds' },
  },
  {
    is: 'a share',
    system: 'win32',
    wish: { restorePath: '\\\\server\\share\\x' },
    to: '\\\\server\\share\\x\\@hyperv',
  },
  {
    is: 'roots whatever the case, as Windows has it',
    system: 'win32',
    wish: { where: 'd:/Restore/a', roots: ['D:\\restore'] },
    to: 'd:\\Restore\\a\\@hyperv',
  },
];

describe('where a restore writes', () => {
  for (const { is, system = 'posix', prefix, wish, to } of ROWS) {
    const outcome = typeof to === 'string' ? `leads to ${to}` : 'is refused';
    it(`${is} ${outcome} (${system})`, () => {
      const whole: Wish = {
        restorePath: undefined,
        where: '',
        regexWhere: '',
        roots: undefined,
        ...wish,
      };
      const placedAt = `${prefix ?? whole.where}/@hyperv/${NAME}`;
      const decide = (): string => {
        const entry = { path: NAME, namespace: '@hyperv', placedAt } as const;
        const found = destinationOf(entry, whole, path[system]);
        return found.kind === 'folder' ? found.folder : found.kind;
      };
      if (typeof to === 'string') {
        expect(decide()).to.equal(to);
        return;
      }
      try {
        expect.fail(`leads to ${decide()}`);
      } catch (error) {
        if (!(error instanceof DrError)) throw error;
        expect(error.code).to.equal('E_RESTORE_PATH');
        expect(error.line).to.include(to.refused);
      }
    });
  }
});
