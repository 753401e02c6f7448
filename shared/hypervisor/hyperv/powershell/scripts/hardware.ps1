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
