# What the hardware of a VM is like for its guest, beside its disks and adapters (operations/hardware.ts).

# The names of integration services are in the language of the host; the component at the end of an id is not.
function Get-HvdrServices {
    param($Vm)
    $services = @()
    foreach ($service in @(Get-VMIntegrationService -VM $Vm)) {
        $services += @{
            'id' = $service.Id.Split('\')[-1]
            'isEnabled' = [bool]$service.Enabled
        }
    }
    return $services
}

function Invoke-HvdrMachineSetServices {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    foreach ($service in @(Get-VMIntegrationService -VM $vm)) {
        $id = $service.Id.Split('\')[-1]
        if (@($Arguments.enabledIds) -contains $id) {
            Enable-VMIntegrationService -VMIntegrationService $service
        }
        if (@($Arguments.disabledIds) -contains $id) {
            Disable-VMIntegrationService -VMIntegrationService $service
        }
    }
    return @{
        'done' = 'yes'
    }
}

# What a VM of generation 2 starts from is called by its place at the SCSI controllers, or by the id of its adapter.
function Get-HvdrDevicePlace {
    param($Drive)
    return $Drive.ControllerNumber.ToString() + '/' + $Drive.ControllerLocation.ToString()
}

function Get-HvdrBootOrder {
    param($Vm)
    $order = @()
    if ($Vm.Generation -ne 2) {
        $bios = Get-VMBios -VM $Vm
        foreach ($class in @($bios.StartupOrder)) {
            $order += @{
                'kind' = 'class'
                'device' = $class.ToString()
            }
        }
        return $order
    }
    $firmware = Get-VMFirmware -VM $Vm
    $drives = @(Get-VMHardDiskDrive -VM $Vm)
    $adapters = @(Get-VMNetworkAdapter -VM $Vm)
    foreach ($source in @($firmware.BootOrder)) {
        $device = $source.Device
        # a file that a guest has entered in its firmware has none
        if ($null -ne $device) {
            foreach ($drive in $drives) {
                if ($drive.Id -eq $device.Id) {
                    $order += @{
                        'kind' = 'disk'
                        'device' = Get-HvdrDevicePlace -Drive $drive
                    }
                }
            }
            foreach ($adapter in $adapters) {
                if ($adapter.Id -eq $device.Id) {
                    $order += @{
                        'kind' = 'adapter'
                        'device' = $adapter.Id.Split('\')[-1]
                    }
                }
            }
        }
    }
    return $order
}

function Invoke-HvdrMachineSetBootOrder {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $drives = @(Get-VMHardDiskDrive -VM $vm)
    $adapters = @(Get-VMNetworkAdapter -VM $vm)
    $devices = @()
    foreach ($wanted in @($Arguments.devices)) {
        foreach ($drive in $drives) {
            $place = Get-HvdrDevicePlace -Drive $drive
            if ($place -eq $wanted) {
                $devices += $drive
            }
        }
        foreach ($adapter in $adapters) {
            if ($adapter.Id.Split('\')[-1] -eq $wanted) {
                $devices += $adapter
            }
        }
    }
    if ($devices.Count -gt 0) {
        Set-VMFirmware -VM $vm -BootOrder $devices
    }
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrMachineSetStartupOrder {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Set-VMBios -VM $vm -StartupOrder $Arguments.classes
    return @{
        'done' = 'yes'
    }
}

function Get-HvdrFirmwareIds {
    param($Settings)
    return @{
        'biosGuid' = ConvertTo-HvdrText -Value $Settings.BIOSGUID
        'biosSerialNumber' = [string]$Settings.BIOSSerialNumber
        'baseBoardSerialNumber' = [string]$Settings.BaseBoardSerialNumber
        'chassisSerialNumber' = [string]$Settings.ChassisSerialNumber
        'chassisAssetTag' = [string]$Settings.ChassisAssetTag
    }
}

function Invoke-HvdrMachineSetFirmwareIds {
    param($Arguments)
    $system = Get-HvdrSystem -VmId $Arguments.vmId
    $settings = Get-HvdrActiveSettings -System $system
    # read-only to an assignment of PowerShell, not to the method; the GUID has to stand in braces
    if ($null -ne $Arguments.biosGuid) {
        $settings.CimInstanceProperties['BIOSGUID'].Value = ([guid]$Arguments.biosGuid).ToString('B').ToUpperInvariant()
    }
    $settings.CimInstanceProperties['BIOSSerialNumber'].Value = [string]$Arguments.biosSerialNumber
    $settings.CimInstanceProperties['BaseBoardSerialNumber'].Value = [string]$Arguments.baseBoardSerialNumber
    $settings.CimInstanceProperties['ChassisSerialNumber'].Value = [string]$Arguments.chassisSerialNumber
    $settings.CimInstanceProperties['ChassisAssetTag'].Value = [string]$Arguments.chassisAssetTag
    $service = Get-HvdrService -ClassName 'Msvm_VirtualSystemManagementService'
    $embedded = ConvertTo-HvdrEmbedded -Instance $settings
    $out = Invoke-CimMethod -InputObject $service -MethodName 'ModifySystemSettings' -Arguments @{
        'SystemSettings' = $embedded
    }
    return Get-HvdrVerdict -Out $out
}

function Invoke-HvdrMachineEnableTpm {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Set-VMKeyProtector -VM $vm -NewLocalKeyProtector
    Enable-VMTPM -VM $vm
    return @{
        'done' = 'yes'
    }
}
