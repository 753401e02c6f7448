; The set-up for Windows. bin/package/windows.mjs gives it:
;   VERSION, STAGE (the folder of all files), OUTPUT, LISTS (of these files, by component), COMPRESS (lzma or off)
;
; Everything is unpacked into .new folders first, where a full disk harms nobody. Then services are stopped, and each file
; changes places with its former one, which also works for programs and libraries that run. When a step fails, the former
; files come back, and so do services, as they were. Only files of the list are ever removed.
;
; Exit codes: 0 done, 1 failed and nothing was changed or all of it undone, 2 wrong usage.

Target amd64-unicode
!if "${COMPRESS}" == "off"
  SetCompress off
!else
  SetCompressor /SOLID lzma
!endif
RequestExecutionLevel admin
AllowSkipFiles off
ManifestSupportedOS all
ShowInstDetails show
ShowUninstDetails show

!include "MUI2.nsh"
!include "LogicLib.nsh"
!include "FileFunc.nsh"
!include "WinMessages.nsh"
!include "Sections.nsh"
!include "StrFunc.nsh"
${StrStr}
!include "${LISTS}"

!define PRODUCT "PodHeitor HVDR"
!define KEY "Software\PodHeitor\HyperV"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\PodHeitorHyperV"
!define EVENT_KEY "SYSTEM\CurrentControlSet\Services\EventLog\Application"
!define RECEIVER "PodHeitorReceiver"
!define AGENT "PodHeitorAgent"

Name "${PRODUCT} ${VERSION}"
OutFile "${OUTPUT}"
InstallDir "$PROGRAMFILES64\PodHeitor\HyperV"
InstallDirRegKey HKLM "${KEY}" "InstallDir"
VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "${PRODUCT}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "${PRODUCT} set-up"
VIAddVersionKey "LegalCopyright" "Apache-2.0; the plugins: AGPL-3.0-only"

Var Config      ; %ProgramData%\PodHeitor
Var Plugins     ; of the File Daemon; empty: there is none
Var FormerPlugins ; of the last installation
Var Bacula      ; what /BACULA= said, now or at an earlier installation
Var Failure     ; what went wrong first
Var Remains     ; what could not be undone, or removed
Var From        ; SwapIn, SwapOut, Settle: from this folder …
Var To          ; … into this one
Var Names       ; and the file that tells what this run has exchanged there
Var ReceiverRan ; what phsvc state says of it; empty: nobody has asked
Var ReceiverLine ; its command line as it was
Var ReceiverTitle
Var AgentRan
Var AgentLine
Var AgentTitle
Var Report
Var Done        ; what the removal has done so far

!define MUI_ABORTWARNING
!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_LICENSE "${STAGE}\LICENSE.txt"
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; A line on the page, and in a file for silent runs.
!macro SayLine un
Function ${un}Say
  Exch $0
  Push $1
  DetailPrint "$0"
  FileOpen $1 "$TEMP\podheitor-setup.log" a
  FileSeek $1 0 END
  FileWrite $1 "$0$\r$\n"
  FileClose $1
  Pop $1
  Pop $0
FunctionEnd
!macroend
!insertmacro SayLine ""
!insertmacro SayLine "un."
!macro Say TEXT
  Push "${TEXT}"
  Call Say
!macroend
!define Say "!insertmacro Say"
!macro UnSay TEXT
  Push "${TEXT}"
  Call un.Say
!macroend
!define UnSay "!insertmacro UnSay"

; Keeps the first failure only: what follows comes of it.
!macro Fail TEXT
  ${If} $Failure == ""
    StrCpy $Failure "${TEXT}"
  ${EndIf}
  ${Say} "${TEXT}"
!macroend
!define Fail "!insertmacro Fail"

; Of what is done already, or is to be undone: it is told, and goes on.
!macro Remains TEXT
  StrCpy $Remains "$Remains$\r$\n${TEXT}"
  ${Say} "${TEXT}"
!macroend
!define Remains "!insertmacro Remains"

; Runs a program of ours; its exit code is in $0, what it said goes to the report.
!macro Run COMMAND
  nsExec::ExecToStack `${COMMAND}`
  Pop $0
  Pop $Report
  ${If} $Report != ""
    ${Say} "$Report"
  ${EndIf}
!macroend
!define Run "!insertmacro Run"

; ---------------------------------------------------------------- components

Section "Backend and Hyper-V plugin (required)" SecMain
  SectionIn RO
  Call Prepare
  ${If} $Failure != ""
    ${Say} "failed: $Failure; nothing was changed"
    SetErrorLevel 1
    MessageBox MB_OK|MB_ICONSTOP "$Failure$\r$\n$\r$\nNothing was changed." /SD IDOK
    Abort
  ${EndIf}
  SetOutPath "$INSTDIR\.new"
  !insertmacro UnpackMain
SectionEnd

SectionGroup /e "Services"
Section /o "Receiver (DR site)" SecReceiver
SectionEnd
Section /o "Agent (Hyper-V host)" SecAgent
SectionEnd
SectionGroupEnd

Section /o "Conversion: plugins for vSphere and Proxmox" SecConversion
  SetOutPath "$INSTDIR\.new"
  !insertmacro UnpackConversion
SectionEnd

Section "Documentation" SecDocumentation
  SetOutPath "$INSTDIR\.new"
  !insertmacro UnpackDocumentation
SectionEnd

Section "-Apply"
  Call Apply
  SetOutPath "$TEMP"
  ${If} $Failure != ""
    Call Undo
    ${If} $Remains == ""
      StrCpy $1 "what was there before is there again"
    ${Else}
      StrCpy $1 "not all of it could be undone: $Remains"
    ${EndIf}
    ${Say} "failed: $Failure; $1"
    SetErrorLevel 1
    MessageBox MB_OK|MB_ICONSTOP "$Failure$\r$\n$\r$\n$1" /SD IDOK
    Abort
  ${EndIf}
  Call Finish
  ${If} $Remains != ""
    ${Say} "installed, but not all was tidied up: $Remains"
    SetErrorLevel 1
    MessageBox MB_OK|MB_ICONEXCLAMATION "Installed, but not all was tidied up:$\r$\n$Remains" /SD IDOK
  ${EndIf}
SectionEnd

LangString DescMain ${LANG_ENGLISH} "Command line, backend, the plugin of Bacula's File Daemon, an example FileSet, manual and licence."
LangString DescReceiver ${LANG_ENGLISH} "Takes the cycles of Hyper-V hosts and keeps their restore points. Started by you, once its keys are there."
LangString DescAgent ${LANG_ENGLISH} "Replicates the VMs of this host for ever. Started by you, once its key is there."
LangString DescConversion ${LANG_ENGLISH} "Restores VMware and Proxmox backups as Hyper-V VMs. Needs qemu-img.exe on the PATH, which is not part of this."
LangString DescDocumentation ${LANG_ENGLISH} "All pages of the documentation."
!insertmacro MUI_FUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${SecMain} $(DescMain)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecReceiver} $(DescReceiver)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecAgent} $(DescAgent)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecConversion} $(DescConversion)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecDocumentation} $(DescDocumentation)
!insertmacro MUI_FUNCTION_DESCRIPTION_END

; ---------------------------------------------------------------- what is wanted

Function .onInit
  SetRegView 64
  SetShellVarContext all
  StrCpy $Config "$APPDATA\PodHeitor"
  StrCpy $Failure ""
  ; an upgrade has the components that were there
  ReadRegStr $1 HKLM "${KEY}" "Components"
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/COMPONENTS=" $2
  ${IfNot} ${Errors}
    StrCpy $1 $2
  ${EndIf}
  ${If} $1 != ""
    Push $1
    Call SelectComponents
  ${EndIf}
  Call FindPlugins
FunctionEnd

; Takes a list of names with commas: none, or some of receiver, agent, conversion, documentation.
!macro Choose NAME SECTION
  ${StrStr} $2 $1 ",${NAME},"
  ${If} $2 != ""
    !insertmacro SelectSection ${SECTION}
    IntOp $3 $3 + 1
  ${Else}
    !insertmacro UnselectSection ${SECTION}
  ${EndIf}
!macroend
Function SelectComponents
  Pop $1
  StrCpy $4 0 ; names in the list
  StrCpy $5 "$1,"
  ${Do}
    ${StrStr} $6 $5 ","
    ${If} $6 == ""
      ${Break}
    ${EndIf}
    IntOp $4 $4 + 1
    StrCpy $5 $6 "" 1
  ${Loop}
  StrCpy $1 ",$1,"
  StrCpy $3 0 ; names that are known
  !insertmacro Choose receiver ${SecReceiver}
  !insertmacro Choose agent ${SecAgent}
  !insertmacro Choose conversion ${SecConversion}
  !insertmacro Choose documentation ${SecDocumentation}
  ${If} $1 != ",none,"
  ${AndIf} $3 != $4
    ${Say} "wrong usage: /COMPONENTS= takes none, or some of receiver,agent,conversion,documentation"
    SetErrorLevel 2
    Abort
  ${EndIf}
FunctionEnd

; The File Daemon's plugin folder: of /BACULA=FOLDER, now or at an earlier installation, else of the last installation,
; else of its service.
Function FindPlugins
  ReadRegStr $FormerPlugins HKLM "${KEY}" "PluginDir"
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/BACULA=" $1
  ${IfNot} ${Errors}
    StrCpy $Bacula $1
    ${If} $1 != "none"
    ${AndIfNot} ${FileExists} "$1\*.*"
      ${Say} "wrong usage: /BACULA= names no folder: $1"
      SetErrorLevel 2
      Abort
    ${EndIf}
  ${Else}
    ReadRegStr $Bacula HKLM "${KEY}" "Bacula"
    StrCpy $1 $Bacula
    ${If} $1 == ""
    ${AndIf} $FormerPlugins != ""
      ${GetParent} $FormerPlugins $1
    ${EndIf}
    ${If} $1 != ""
    ${AndIf} $1 != "none"
    ${AndIfNot} ${FileExists} "$1\*.*"
      ${Say} "$1, where the plugins were, is gone"
      StrCpy $Bacula ""
      StrCpy $1 ""
    ${EndIf}
  ${EndIf}
  ${If} $1 == ""
    ReadRegStr $2 HKLM "SYSTEM\CurrentControlSet\Services\Bacula-fd" "ImagePath"
    StrCpy $3 $2 1
    ${If} $3 == '"'
      StrCpy $2 $2 "" 1
    ${EndIf}
    ${StrStr} $4 $2 "\bacula-fd.exe"
    StrLen $5 $2
    StrLen $6 $4
    IntOp $5 $5 - $6
    StrCpy $1 $2 $5
    ${If} $6 == 0
    ${OrIfNot} ${FileExists} "$1\*.*"
      StrCpy $1 "none"
    ${EndIf}
  ${EndIf}
  ${If} $1 == "none"
    StrCpy $Plugins ""
  ${Else}
    StrCpy $Plugins "$1\plugins"
  ${EndIf}
FunctionEnd

; ---------------------------------------------------------------- files

; Of a whole path: the file goes. One that a process has open goes with the next start of the machine, under a name that
; no later set-up gives to another file: what Windows is to remove then, it finds by name.
!macro DiscardFile un
Function ${un}Discard
  Exch $R0
  Push $R1
  Delete "$R0"
  ${If} ${FileExists} "$R0"
    System::Call "kernel32::GetTickCount() i .R1"
    ClearErrors
    Rename "$R0" "$R0.$R1.old"
    ${IfNot} ${Errors}
      Delete /REBOOTOK "$R0.$R1.old"
    ${EndIf}
  ${EndIf}
  Pop $R1
  Pop $R0
FunctionEnd
!macroend
!insertmacro DiscardFile ""
!insertmacro DiscardFile "un."
!macro Discard PATH
  Push "${PATH}"
  Call Discard
!macroend
!define Discard "!insertmacro Discard"

; Of a name: the new file takes the place of the former one, which stays beside it. What this run has exchanged stands in
; $Names, a file of this run alone, so that only that is undone.
Function SwapIn
  Exch $R0
  Push $R1
  ${If} $Failure == ""
  ${AndIf} ${FileExists} "$From\$R0"
    ${GetParent} "$To\$R0" $R1
    CreateDirectory "$R1"
    ; of an earlier run
    ${Discard} "$To\$R0.former"
    ClearErrors
    ${If} ${FileExists} "$To\$R0.former"
      SetErrors
    ${ElseIf} ${FileExists} "$To\$R0"
      WriteINIStr "$Names" "former" "$R0" "1"
      ${IfNot} ${Errors}
        Rename "$To\$R0" "$To\$R0.former"
      ${Else}
        SetErrors
      ${EndIf}
    ${Else}
      WriteINIStr "$Names" "new" "$R0" "1"
    ${EndIf}
    ; asking for errors forgets them
    ${If} ${Errors}
      ${Fail} "$To\$R0 cannot be replaced"
    ${Else}
      Rename "$From\$R0" "$To\$R0"
      ${If} ${Errors}
        ${Fail} "$To\$R0 cannot be written"
      ${EndIf}
    ${EndIf}
  ${EndIf}
  Pop $R1
  Pop $R0
FunctionEnd

; Of a name: the former file is back in its place, and one that was new is gone.
Function SwapOut
  Exch $R0
  Push $R1
  ReadINIStr $R1 "$Names" "former" "$R0"
  ${If} $R1 == "1"
    ${If} ${FileExists} "$To\$R0.former"
      ${Discard} "$To\$R0"
      ClearErrors
      Rename "$To\$R0.former" "$To\$R0"
      ${If} ${Errors}
        ${Remains} "$To\$R0 is the new one; the former one is $To\$R0.former"
      ${EndIf}
    ${EndIf}
  ${Else}
    ReadINIStr $R1 "$Names" "new" "$R0"
    ${If} $R1 == "1"
      ${Discard} "$To\$R0"
      ${If} ${FileExists} "$To\$R0"
        ${Remains} "$To\$R0 cannot be removed"
      ${EndIf}
    ${EndIf}
  ${EndIf}
  Pop $R1
  Pop $R0
FunctionEnd

; Of a name: the former file goes, now or with the process that has it.
Function Settle
  Exch $R0
  ${Discard} "$To\$R0.former"
  Pop $R0
FunctionEnd

!macro SwapIn NAME
  Push "${NAME}"
  Call SwapIn
!macroend
!macro SwapOut NAME
  Push "${NAME}"
  Call SwapOut
!macroend
!macro Settle NAME
  Push "${NAME}"
  Call Settle
!macroend

; A second name of a file, or a copy where there can be none.
!macro LinkFile TARGET NAME
  System::Call 'kernel32::CreateHardLinkW(w "${NAME}", w "${TARGET}", p 0) i .r0'
  ${If} $0 == 0
    ClearErrors
    CopyFiles /SILENT "${TARGET}" "${NAME}"
    ${If} ${Errors}
      ${Fail} "${NAME} cannot be written"
    ${EndIf}
  ${EndIf}
!macroend

!macro Programs
  StrCpy $From "$INSTDIR\.new"
  StrCpy $To "$INSTDIR"
  StrCpy $Names "$PLUGINSDIR\programs.ini"
!macroend
!macro PluginFiles
  StrCpy $From "$Plugins\.podheitor-new"
  StrCpy $To "$Plugins"
  StrCpy $Names "$PLUGINSDIR\plugins.ini"
!macroend
!macro LinkPlugin NAME
  ${If} ${FileExists} "$INSTDIR\bacula\${NAME}"
    ClearErrors
    CopyFiles /SILENT "$INSTDIR\bacula\${NAME}" "$From\${NAME}"
    ${If} ${Errors}
      ${Fail} "$From\${NAME} cannot be written"
    ${EndIf}
  ${EndIf}
!macroend
!macro LinkBackend NAME
  ${GetParent} "$From\${NAME}" $1
  CreateDirectory "$1"
  !insertmacro LinkFile "$INSTDIR\${NAME}" "$From\${NAME}"
!macroend

!macro RemoveNew NAME
  Delete "$From\${NAME}"
!macroend

!macro RemoveNewFolder NAME
  RMDir "$From\${NAME}"
!macroend
!macro RemoveFolder NAME
  RMDir "$INSTDIR\${NAME}"
!macroend
!macro RemovePluginFolder NAME
  RMDir "$Plugins\${NAME}"
!macroend
!macro RemoveFile NAME
  ${Discard} "$INSTDIR\${NAME}"
!macroend
!macro RemovePlugin NAME
  ${Discard} "$Plugins\${NAME}"
!macroend
!macro RemoveFormerPlugin NAME
  ${Discard} "$FormerPlugins\${NAME}"
!macroend
!macro RemoveFormerFolder NAME
  RMDir "$FormerPlugins\${NAME}"
!macroend

; ---------------------------------------------------------------- the steps

; As it is before anything is changed.
!macro LookAtService NAME RAN LINE TITLE
  ${Run} '"$PLUGINSDIR\phsvc.exe" state ${NAME}'
  ${If} $0 == 0
  ${OrIf} $0 == 3
  ${OrIf} $0 == 4
    StrCpy ${RAN} $0 ; 0: it runs, 3: it is not there, 4: it does not run
  ${ElseIf} $0 == 5 ; it starts
    StrCpy ${RAN} 0
  ${Else}
    ${Fail} "the service manager does not tell about ${NAME}"
  ${EndIf}
  ReadRegStr ${LINE} HKLM "SYSTEM\CurrentControlSet\Services\${NAME}" "ImagePath"
  ReadRegStr ${TITLE} HKLM "SYSTEM\CurrentControlSet\Services\${NAME}" "DisplayName"
  StrLen $0 ${LINE}
  ${If} $0 > 800 ; more does not fit into a variable, with the words around it
    ${Fail} "the command line of the service ${NAME} is too long to be kept"
  ${EndIf}
!macroend

!macro CheckFolder PATH
  ${If} $Failure == ""
  ${AndIf} ${FileExists} "${PATH}\*.*"
    ${Run} '"$PLUGINSDIR\phsvc.exe" check "${PATH}"'
    ${If} $0 != 0
      ${Fail} "users may change ${PATH}, whose plugins run as the system: take that right away (icacls), or give /BACULA=none"
    ${EndIf}
  ${EndIf}
!macroend

!macro ProtectFolder KIND PATH
  ${If} $Failure == ""
    ${Run} '"$PLUGINSDIR\phsvc.exe" protect ${KIND} "${PATH}"'
    ${If} $0 != 0
      ${Fail} "${PATH} cannot be kept from other users: $Report"
    ${EndIf}
  ${EndIf}
!macroend
Function Protect
  !insertmacro ProtectFolder programs "$INSTDIR"
  !insertmacro ProtectFolder configuration "$Config"
FunctionEnd

; What can be refused before anything is unpacked, and folders that nobody else may change from now on.
Function Prepare
  StrCpy $ReceiverRan ""
  StrCpy $AgentRan ""
  InitPluginsDir
  SetOutPath "$PLUGINSDIR"
  File "${STAGE}/phsvc.exe"
  ${If} $Plugins != ""
    ${GetParent} $Plugins $1
    !insertmacro CheckFolder "$1"
    !insertmacro CheckFolder "$Plugins"
  ${EndIf}
  ${If} $Failure == ""
    !insertmacro LookAtService ${RECEIVER} $ReceiverRan $ReceiverLine $ReceiverTitle
    !insertmacro LookAtService ${AGENT} $AgentRan $AgentLine $AgentTitle
  ${EndIf}
  ${If} $Failure == ""
    CreateDirectory "$INSTDIR"
    Call Protect
  ${EndIf}
FunctionEnd

!macro StopService NAME RAN
  ${If} $Failure == ""
  ${AndIf} ${RAN} != 3
    ${Run} '"$PLUGINSDIR\phsvc.exe" stop ${NAME}'
    ${If} $0 != 0
      ${Fail} "the service ${NAME} cannot be stopped"
    ${EndIf}
  ${EndIf}
!macroend

!macro MakeService NAME RAN SECTION TITLE ABOUT WORDS LOG
  ${If} $Failure == ""
  ${AndIf} ${SectionIsSelected} ${SECTION}
    ${Run} '"$INSTDIR\phsvc.exe" install ${NAME} "${TITLE}" "${ABOUT}" "$Config\log\${LOG}" -- "$INSTDIR\hvdr.exe" ${WORDS} --stop-on-stdin-close'
    ${If} $0 != 0
      ${Fail} "the service ${NAME} cannot be made"
    ${EndIf}
    ClearErrors
    WriteRegExpandStr HKLM "${EVENT_KEY}\${NAME}" "EventMessageFile" "%SystemRoot%\System32\EventCreate.exe"
    WriteRegDWORD HKLM "${EVENT_KEY}\${NAME}" "TypesSupported" 7
    ${If} ${Errors}
      ${Fail} "the service ${NAME} cannot be made known to the system's log"
    ${EndIf}
    ${If} $Failure == ""
    ${AndIf} ${RAN} == 0
      ${Run} '"$INSTDIR\phsvc.exe" start ${NAME}'
      ${If} $0 != 0
        ${Fail} "the service ${NAME} does not run with the new files, see $Config\log\${LOG}"
      ${EndIf}
    ${EndIf}
  ${EndIf}
!macroend

; Of a component that is not wanted any more. It cannot be undone, so nothing that can fail comes after it.
!macro DropService NAME RAN SECTION
  ${IfNot} ${SectionIsSelected} ${SECTION}
  ${AndIf} ${RAN} != 3
    ${Run} '"$INSTDIR\phsvc.exe" remove ${NAME}'
    ${If} $0 != 0
      ${Remains} "the service ${NAME} cannot be removed; it is stopped"
    ${Else}
      DeleteRegKey HKLM "${EVENT_KEY}\${NAME}"
    ${EndIf}
  ${EndIf}
!macroend

; Files of the administrator: made once, never changed by us.
!macro KeepConfig NAME
  ${IfNot} ${FileExists} "$Config\${NAME}"
    ClearErrors
    CopyFiles /SILENT "$INSTDIR\config\${NAME}" "$Config\${NAME}"
    ${If} ${Errors}
      ${Fail} "$Config\${NAME} cannot be written"
    ${EndIf}
  ${EndIf}
!macroend

Function Apply
  ClearErrors
  WriteUninstaller "$INSTDIR\.new\uninstall.exe"
  ${If} ${Errors}
    ${Fail} "$INSTDIR cannot be written"
  ${EndIf}
  !insertmacro LinkFile "$INSTDIR\.new\podheitor-hyperv-backend.exe" "$INSTDIR\.new\hvdr.exe"
  !insertmacro StopService ${RECEIVER} $ReceiverRan
  !insertmacro StopService ${AGENT} $AgentRan
  !insertmacro Programs
  !insertmacro EachFile SwapIn

  ${If} $Failure == ""
    ClearErrors
    CreateDirectory "$Config\keys"
    CreateDirectory "$Config\log"
    ${If} ${Errors}
      ${Fail} "$Config cannot be written"
    ${EndIf}
    !insertmacro KeepConfig receiver.conf
    !insertmacro KeepConfig agent.conf
    !insertmacro KeepConfig backend.conf
    ; what is new belongs to all administrators too, and not to the one who runs this
    Call Protect
  ${EndIf}

  ${If} $Failure == ""
  ${AndIf} $Plugins != ""
    !insertmacro PluginFiles
    CreateDirectory "$From"
    !insertmacro EachPlugin LinkPlugin
    ${IfNot} ${SectionIsSelected} ${SecConversion}
      !insertmacro EachConversionPlugin RemoveNew
    ${EndIf}
    !insertmacro EachBackend LinkBackend
    !insertmacro EachPlugin SwapIn
    !insertmacro EachBackend SwapIn
  ${EndIf}

  !insertmacro MakeService ${RECEIVER} $ReceiverRan ${SecReceiver} "PodHeitor HVDR receiver" \
    "Takes the cycles of Hyper-V hosts and keeps their restore points." \
    'receiver --config "$Config\receiver.conf"' receiver.log
  !insertmacro MakeService ${AGENT} $AgentRan ${SecAgent} "PodHeitor HVDR agent" \
    "Replicates the VMs of this host to a DR receiver." \
    'daemon --config "$Config\agent.conf"' agent.log
FunctionEnd

!macro UndoService NAME RAN
  ${If} ${RAN} == 3
    ${Run} '"$PLUGINSDIR\phsvc.exe" remove ${NAME}'
    ${If} $0 != 0
      ${Remains} "the service ${NAME} cannot be removed"
    ${EndIf}
    DeleteRegKey HKLM "${EVENT_KEY}\${NAME}"
  ${ElseIf} ${RAN} != ""
    ${Run} '"$PLUGINSDIR\phsvc.exe" stop ${NAME}'
    ${If} $0 != 0
      ${Remains} "the service ${NAME} cannot be stopped"
    ${EndIf}
  ${EndIf}
!macroend
!macro BringBackService NAME RAN LINE TITLE
  ${If} ${RAN} == 0
  ${OrIf} ${RAN} == 4
    ${Run} '"$PLUGINSDIR\phsvc.exe" restore ${NAME} "${TITLE}" -- ${LINE}'
    ${If} $0 != 0
      ${Remains} "the service ${NAME} has not got its former command line: ${LINE}"
    ${EndIf}
  ${EndIf}
  ${If} ${RAN} == 0
    ${Run} '"$PLUGINSDIR\phsvc.exe" start ${NAME}'
    ${If} $0 != 0
      ${Remains} "the service ${NAME} does not run again"
    ${EndIf}
  ${EndIf}
!macroend

Function Undo
  !insertmacro UndoService ${RECEIVER} $ReceiverRan
  !insertmacro UndoService ${AGENT} $AgentRan
  ${If} $Plugins != ""
    !insertmacro PluginFiles
    !insertmacro EachPlugin SwapOut
    !insertmacro EachBackend SwapOut
  ${EndIf}
  !insertmacro Programs
  !insertmacro EachFile SwapOut
  !insertmacro BringBackService ${RECEIVER} $ReceiverRan $ReceiverLine $ReceiverTitle
  !insertmacro BringBackService ${AGENT} $AgentRan $AgentLine $AgentTitle
  Call CleanUp
  ; of a first installation nothing is left
  !insertmacro EachFolder RemoveFolder
  RMDir "$INSTDIR"
FunctionEnd

; What was unpacked and did not get to its place.
Function CleanUp
  !insertmacro Programs
  !insertmacro EachFile RemoveNew
  !insertmacro EachFolder RemoveNewFolder
  RMDir "$From"
  ${If} $Plugins != ""
    !insertmacro PluginFiles
    !insertmacro EachPlugin RemoveNew
    !insertmacro EachBackend RemoveNew
      !insertmacro EachBackendFolder RemoveNewFolder
    RMDir "$From"
    !insertmacro EachBackendFolder RemovePluginFolder
  ${EndIf}
FunctionEnd

!macro Name SECTION NAME
  ${If} ${SectionIsSelected} ${SECTION}
    StrCpy $1 "$1,${NAME}"
  ${EndIf}
!macroend

Function Finish
  StrCpy $Remains ""
  !insertmacro DropService ${RECEIVER} $ReceiverRan ${SecReceiver}
  !insertmacro DropService ${AGENT} $AgentRan ${SecAgent}
  ${If} $FormerPlugins != ""
  ${AndIf} $FormerPlugins != $Plugins
    !insertmacro EachPlugin RemoveFormerPlugin
    !insertmacro EachBackend RemoveFormerPlugin
    !insertmacro EachBackendFolder RemoveFormerFolder
  ${EndIf}
  ${IfNot} ${SectionIsSelected} ${SecConversion}
    !insertmacro EachConversion RemoveFile
    ${If} $Plugins != ""
      !insertmacro EachConversionPlugin RemovePlugin
    ${EndIf}
  ${EndIf}
  ${IfNot} ${SectionIsSelected} ${SecDocumentation}
    !insertmacro EachDocumentation RemoveFile
  ${EndIf}
  !insertmacro Programs
  !insertmacro EachFile Settle
  ${If} $Plugins != ""
    !insertmacro PluginFiles
    !insertmacro EachPlugin Settle
    !insertmacro EachBackend Settle
  ${EndIf}
  Call CleanUp
  !insertmacro EachFolder RemoveFolder
  ClearErrors
  WriteRegStr HKLM "${KEY}" "InstallDir" "$INSTDIR"
  WriteRegStr HKLM "${KEY}" "Version" "${VERSION}"
  WriteRegStr HKLM "${KEY}" "PluginDir" "$Plugins"
  WriteRegStr HKLM "${KEY}" "Bacula" "$Bacula"
  StrCpy $1 ""
  !insertmacro Name ${SecReceiver} receiver
  !insertmacro Name ${SecAgent} agent
  !insertmacro Name ${SecConversion} conversion
  !insertmacro Name ${SecDocumentation} documentation
  ${If} $1 == ""
    StrCpy $1 ",none"
  ${EndIf}
  StrCpy $1 $1 "" 1
  WriteRegStr HKLM "${KEY}" "Components" "$1"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "DisplayName" "${PRODUCT}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "Publisher" "PodHeitor"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKLM "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKLM "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKLM "${UNINSTALL_KEY}" "NoRepair" 1
  ${If} ${Errors}
    ${Remains} "the registry has not taken what was installed where"
  ${EndIf}
  ${Run} '"$INSTDIR\phsvc.exe" path add "$INSTDIR"'
  ${If} $0 != 0
    ${Remains} "$INSTDIR is not on the search path of the machine"
  ${EndIf}
  SendMessage ${HWND_BROADCAST} ${WM_SETTINGCHANGE} 0 "STR:Environment" /TIMEOUT=2000
  ${If} $Plugins == ""
    ${Say} "no File Daemon was found; its plugins are in $INSTDIR\bacula, /BACULA=FOLDER installs them"
  ${Else}
    ${Say} "the plugins are in $Plugins; restart the File Daemon when no job runs"
  ${EndIf}
  ${Say} "installed ${VERSION} in $INSTDIR: $1"
FunctionEnd

Function .onInstFailed
  ${If} $Failure == ""
    ; a file that cannot be unpacked ends all at once
    SetOutPath "$TEMP"
    Call CleanUp
    !insertmacro EachFolder RemoveFolder
    RMDir "$INSTDIR"
    ${Say} "failed: not all files could be unpacked; nothing was changed"
  ${EndIf}
  SetErrorLevel 1
FunctionEnd

; ---------------------------------------------------------------- removal

!macro DropPath PATH
  Push "${PATH}"
  Call un.Discard
  ${If} ${FileExists} "${PATH}"
    StrCpy $Remains "$Remains$\r$\n${PATH}"
  ${EndIf}
!macroend
!macro DropFile NAME
  !insertmacro DropPath "$INSTDIR\${NAME}"
!macroend
!macro DropPluginFile NAME
  !insertmacro DropPath "$Plugins\${NAME}"
!macroend
!macro un.RemoveService NAME
  nsExec::ExecToStack '"$INSTDIR\phsvc.exe" remove ${NAME}'
  Pop $0
  Pop $Report
  ${If} $0 != 0
    ${UnSay} "failed: the service ${NAME} cannot be removed: $Report; removed until then: $Done"
    SetErrorLevel 1
    Abort
  ${EndIf}
  DeleteRegKey HKLM "${EVENT_KEY}\${NAME}"
  ${If} $Done == "nothing"
    StrCpy $Done "the service ${NAME}"
  ${Else}
    StrCpy $Done "$Done, the service ${NAME}"
  ${EndIf}
!macroend

Function un.onInit
  SetRegView 64
  SetShellVarContext all
FunctionEnd

Section "un.Main"
  StrCpy $Done "nothing"
  StrCpy $Remains ""
  !insertmacro un.RemoveService ${RECEIVER}
  !insertmacro un.RemoveService ${AGENT}
  nsExec::ExecToStack '"$INSTDIR\phsvc.exe" path remove "$INSTDIR"'
  Pop $0
  Pop $Report
  ${If} $0 != 0
    StrCpy $Remains "$\r$\n$INSTDIR on the search path"
  ${EndIf}
  SendMessage ${HWND_BROADCAST} ${WM_SETTINGCHANGE} 0 "STR:Environment" /TIMEOUT=2000
  ReadRegStr $Plugins HKLM "${KEY}" "PluginDir"
  ${If} $Plugins != ""
    !insertmacro EachPlugin DropPluginFile
    !insertmacro EachBackend DropPluginFile
    !insertmacro EachBackendFolder RemovePluginFolder
  ${EndIf}
  !insertmacro EachInstalled DropFile
  !insertmacro EachFolder RemoveFolder
  ; itself, when it runs in its place
  Push "$INSTDIR\uninstall.exe"
  Call un.Discard
  RMDir "$INSTDIR"
  RMDir "$PROGRAMFILES64\PodHeitor"
  DeleteRegKey HKLM "${UNINSTALL_KEY}"
  DeleteRegKey HKLM "${KEY}"
  DeleteRegKey /ifempty HKLM "Software\PodHeitor"
  ${If} $Remains != ""
    ${UnSay} "failed: the services and most files were removed, but these stay: $Remains"
    SetErrorLevel 1
    Abort
  ${EndIf}
  ${UnSay} "removed; configuration, keys, logs and store stay in $APPDATA\PodHeitor"
SectionEnd
