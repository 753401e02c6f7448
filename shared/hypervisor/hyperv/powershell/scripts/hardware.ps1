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
