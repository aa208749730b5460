set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "build type" FORCE)
endif()

add_library(graft_options INTERFACE)
target_compile_definitions(graft_options INTERFACE _GNU_SOURCE GRAFT_VERSION="${PROJECT_VERSION}")
target_include_directories(graft_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_compile_options(graft_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wpedantic
    -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla>
    $<$<COMPILE_LANGUAGE:C>:-fvisibility=hidden -fno-math-errno -fno-trapping-math>)
if(GRAFT_WERROR)
    target_compile_options(graft_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-Werror>)
endif()
if(GRAFT_SANITIZE)
    target_compile_options(graft_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=${GRAFT_SANITIZE}
        -fno-omit-frame-pointer -fno-sanitize-recover=all>)
    target_link_options(graft_options INTERFACE -fsanitize=${GRAFT_SANITIZE})
endif()
if(GRAFT_FUZZ) # the fuzzer steers by what the layers execute
    target_compile_options(graft_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=fuzzer-no-link>)
    target_link_options(graft_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# graft_layer(NAME DEPENDS targets...): the static library of one folder, all its *.c files.
function(graft_layer name)
    cmake_parse_arguments(L "" "" "DEPENDS;LIBS" ${ARGN})
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
    if(NOT sources)
        set(sources ${PROJECT_SOURCE_DIR}/cmake/empty.c)
    endif()
    add_library(graft_${name} STATIC ${sources})
    target_link_libraries(graft_${name} PUBLIC graft_options ${L_DEPENDS} ${L_LIBS})
    set_property(GLOBAL APPEND PROPERTY GRAFT_LAYERS graft_${name})
endfunction()

if(GRAFT_CUDA)
    message(STATUS "GRAFT_CUDA: this version has no CUDA back end yet; building for the CPU alone")
endif()
